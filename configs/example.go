package configs

import (
	"fmt"
	"reflect"
	"strings"
)

const exampleHead = `# Rookery's configuration: every key with its meaning, unit and default.
#
# Remove the # before a key to change it. Each key can also be given in the environment:
# ROOKERY_, the section, the key, in capitals, as ROOKERY_FLOW_MESSAGES_PER_SECOND=40; lists
# are comma separated there. Flags win over the environment, the environment over this file.
# Durations are written like 500ms, 10s, 5m, 168h; sizes like 12000, 64KiB, 1MiB. A key that
# nobody knows is refused.
#
# Rendered from the structs in this folder: go generate ./configs
`

// Example returns rookery.yaml.
func Example() []byte {
	var b strings.Builder
	b.WriteString(exampleHead)
	for _, section := range schema().children {
		b.WriteByte('\n')
		renderSection(&b, section, "")
	}
	return []byte(b.String())
}

func renderSection(b *strings.Builder, n *node, indent string) {
	comment(b, indent, n.tag.Get("doc"))
	fmt.Fprintf(b, "%s%s:\n", indent, n.name)
	indent += "  "
	for _, c := range n.children {
		switch {
		case c.list:
			renderList(b, c, indent)
		case c.isKey():
			comment(b, indent, c.tag.Get("doc")+" "+c.facts())
			fmt.Fprintf(b, "%s#%s: %s\n", indent, c.name, c.literal())
		default:
			renderSection(b, c, indent)
		}
	}
}

// renderList shows the keys of one item as a comment: there is no default item.
func renderList(b *strings.Builder, n *node, indent string) {
	comment(b, indent, n.tag.Get("doc")+" A list of sections, each with these keys:")
	for _, c := range n.children {
		comment(b, indent, fmt.Sprintf("- %s (default %s): %s %s", c.name, c.literal(), c.tag.Get("doc"), c.facts()))
	}
	fmt.Fprintf(b, "%s#%s: []\n", indent, n.name)
}

// facts are unit, bounds and choices in brackets.
func (n *node) facts() string {
	facts := n.kind()
	if unit := n.tag.Get("unit"); unit != "" {
		facts += ", " + unit
	}
	if allowed := n.tag.Get("oneof"); allowed != "" {
		facts = strings.ReplaceAll(allowed, "|", " or ")
	}
	least, most := n.tag.Get("min"), n.tag.Get("max")
	switch {
	case least != "" && most != "":
		facts += ", " + least + " to " + most
	case least != "":
		facts += ", at least " + least
	case most != "":
		facts += ", at most " + most
	}
	return "[" + facts + "]"
}

// literal is the default as YAML.
func (n *node) literal() string {
	text := n.tag.Get("default")
	switch {
	case n.typ == reflect.TypeFor[[]string]():
		return "[" + strings.Join(splitList(text), ", ") + "]"
	case text == "" || n.typ.Kind() == reflect.String && strings.ContainsAny(text[:1], "0123456789-{["):
		return `"` + text + `"` // a text that would else look like a number, a list or a section
	}
	return text
}

const commentWidth = 100

func comment(b *strings.Builder, indent, text string) {
	line := indent + "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > commentWidth {
			b.WriteString(line + "\n")
			line = indent + "#"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}
