package configs

import (
	"reflect"
	"strings"
	"sync"
	"time"
)

// A node is one key, section or list of sections, read from a field of Config.
type node struct {
	name     string
	typ      reflect.Type // of the field; of one item if list
	index    int          // of the field in its struct
	tag      reflect.StructTag
	list     bool    // a list of structs
	children []*node // nil for a key
}

var schema = sync.OnceValue(func() *node {
	return &node{typ: reflect.TypeFor[Config](), children: fieldsOf(reflect.TypeFor[Config]())}
})

func fieldsOf(t reflect.Type) []*node {
	nodes := make([]*node, 0, t.NumField())
	for i := range t.NumField() {
		f := t.Field(i)
		n := &node{name: f.Tag.Get("yaml"), typ: f.Type, index: i, tag: f.Tag}
		if n.typ.Kind() == reflect.Slice && n.typ.Elem().Kind() == reflect.Struct {
			n.list, n.typ = true, n.typ.Elem()
		}
		if n.typ.Kind() == reflect.Struct {
			n.children = fieldsOf(n.typ)
		}
		nodes = append(nodes, n)
	}
	return nodes
}

func (n *node) isKey() bool { return n.children == nil }

func (n *node) child(name string) *node {
	for _, c := range n.children {
		if c.name == name {
			return c
		}
	}
	return nil
}

// setDefaults gives every key below n its default. Lists of sections stay empty.
func (n *node) setDefaults(v reflect.Value) {
	for _, c := range n.children {
		f := v.Field(c.index)
		switch {
		case c.list:
		case c.isKey():
			if err := setText(f, c.tag.Get("default")); err != nil {
				panic("configs: default of " + c.name + " " + err.Error()) // a mistake in a tag; every test would meet it
			}
		default:
			c.setDefaults(f)
		}
	}
}

// walk calls visit for every key below n that v holds, items of lists included.
func (n *node) walk(v reflect.Value, path string, visit func(path string, key *node, v reflect.Value)) {
	for _, c := range n.children {
		f, p := v.Field(c.index), join(path, c.name)
		switch {
		case c.list:
			for i := range f.Len() {
				c.walk(f.Index(i), item(p, i), visit)
			}
		case c.isKey():
			visit(p, c, f)
		default:
			c.walk(f, p, visit)
		}
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// kind names a key's type for readers.
func (n *node) kind() string {
	switch n.typ {
	case reflect.TypeFor[Secret]():
		return "secret text"
	case reflect.TypeFor[time.Duration]():
		return "duration"
	case reflect.TypeFor[Size]():
		return "size"
	case reflect.TypeFor[[]string]():
		return "list of texts"
	}
	switch n.typ.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "whole number"
	case reflect.Float64:
		return "number"
	}
	return "text"
}

// envName is the environment variable of the key at path.
func envName(path string) string {
	path = strings.NewReplacer(".", "_", "[", "_", "]", "").Replace(path)
	return envPrefix + strings.ToUpper(path)
}
