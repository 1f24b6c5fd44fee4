package configs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"gopkg.in/yaml.v3"
)

// file applies the YAML document data, which was read from path.
func (l *loader) file(path string, data []byte) {
	l.yaml(path, data, schema(), reflect.ValueOf(l.cfg).Elem())
}

func (l *loader) yaml(path string, data []byte, root *node, v reflect.Value) {
	f := &yamlFile{loader: l, path: path}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return // nothing but comments
	case err != nil:
		f.refuse(0, "", syntaxProblem(err))
		return
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		f.refuse(0, "", "there is more than one YAML document in the file")
		return
	}
	if len(doc.Content) == 1 {
		f.section(root, doc.Content[0], v, "")
	}
}

type yamlFile struct {
	*loader
	path string
}

func (f *yamlFile) at(line int) string {
	if line == 0 {
		return f.path
	}
	return fmt.Sprintf("%s:%d", f.path, line)
}

func (f *yamlFile) refuse(line int, key, problem string) {
	f.problems = append(f.problems, &Error{Origin: f.at(line), Key: key, Problem: problem})
}

// section applies a mapping to the struct v. A section without content is as if it were not there.
func (f *yamlFile) section(n *node, y *yaml.Node, v reflect.Value, path string) {
	if isNull(y) {
		return
	}
	if y.Kind != yaml.MappingNode {
		f.refuse(y.Line, path, "is not a section with keys")
		return
	}
	lines := map[string]int{}
	for i := 0; i+1 < len(y.Content); i += 2 {
		key, value := y.Content[i], y.Content[i+1]
		p := join(path, key.Value)
		c := n.child(key.Value)
		switch {
		case key.Kind != yaml.ScalarNode:
			f.refuse(key.Line, path, "has a key that is not a text")
		case c == nil:
			f.refuse(key.Line, p, "unknown key")
		case lines[key.Value] != 0:
			f.refuse(key.Line, p, fmt.Sprintf("stands twice, also in line %d", lines[key.Value]))
		default:
			lines[key.Value] = key.Line
			f.value(c, value, v.Field(c.index), p)
		}
	}
}

func (f *yamlFile) value(n *node, y *yaml.Node, v reflect.Value, path string) {
	switch {
	case n.list:
		f.sections(n, y, v, path)
	case !n.isKey():
		f.section(n, y, v, path)
	case isNull(y):
		f.refuse(y.Line, path, `has no value; write "" for an empty text, or remove the line`)
	case y.Kind == yaml.SequenceNode && n.typ == reflect.TypeFor[[]string]():
		f.texts(y, v, path)
	case y.Kind != yaml.ScalarNode:
		f.refuse(y.Line, path, "is not a "+n.kind())
	default:
		f.set(v, path, y.Value, origin{text: f.at(y.Line)})
	}
}

// sections applies a sequence of mappings to the slice v.
func (f *yamlFile) sections(n *node, y *yaml.Node, v reflect.Value, path string) {
	if y.Kind != yaml.SequenceNode {
		f.refuse(y.Line, path, "is not a list of sections")
		return
	}
	v.SetLen(0)
	for i, content := range y.Content {
		grow(n, v, i+1)
		f.section(n, content, v.Index(i), item(path, i))
	}
}

// texts applies a sequence of texts, which unlike the comma separated form may hold commas.
func (f *yamlFile) texts(y *yaml.Node, v reflect.Value, path string) {
	var list []string
	for _, content := range y.Content {
		if content.Kind != yaml.ScalarNode || isNull(content) {
			f.refuse(content.Line, path, "has an item that is not a text")
			return
		}
		list = append(list, content.Value)
	}
	v.Set(reflect.ValueOf(list))
	f.origins[path] = origin{text: f.at(y.Line)}
}

func isNull(y *yaml.Node) bool { return y.Kind == yaml.ScalarNode && y.ShortTag() == "!!null" }

// syntaxProblem is what the YAML parser says. It shows a value in one case, which is left out
// since it may be a secret: a text that starts with * and is not quoted is taken for an alias.
func syntaxProblem(err error) string {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if strings.HasPrefix(text, "unknown anchor") {
		return "a value starts with * and must be in quotes"
	}
	return text
}
