package configs

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite rookery.yaml")

func TestExampleFile(t *testing.T) {
	if *update {
		if err := os.WriteFile("rookery.yaml", Example(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("rookery.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, Example()) {
		t.Error(`rookery.yaml is not what the structs say: run "go generate ./configs"`)
	}
}

// As it stands, and with every key uncommented, the file says what the defaults say. The keys
// are found in the text by themselves, so that one which is not rendered would be missed.
func TestExampleFileIsTheDefaults(t *testing.T) {
	text, err := os.ReadFile("rookery.yaml")
	if err != nil {
		t.Fatal(err)
	}
	commented := regexp.MustCompile(`(?m)^( *)#([a-z_]+:)`)
	uncommented := commented.ReplaceAll(text, []byte("$1$2"))

	keys := keysShown(schema())
	if n := len(commented.FindAll(text, -1)); n != keys || keys < 100 {
		t.Errorf("rookery.yaml has %d commented keys, the structs have %d", n, keys)
	}
	for name, data := range map[string][]byte{"as it stands": text, "uncommented": uncommented} {
		l := loadFile(t, string(data))
		if !reflect.DeepEqual(*l, *Default()) {
			t.Errorf("%s: Load = %+v\n want %+v", name, *l, *Default())
		}
	}
	// The comparison must be able to fail.
	if l := loadFile(t, strings.Replace(string(uncommented), "[administrator]", "[root]", 1)); reflect.DeepEqual(*l, *Default()) {
		t.Error("a changed admin goes unnoticed")
	}
}

// Every key has a meaning, a default that is within its bounds, and a name that is unique as a variable.
func TestTags(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Errorf("the default configuration is not valid: %v", err)
	}
	names := map[string]string{}
	walkKeys(func(path string, n *node) {
		if n.name == "" || n.tag.Get("doc") == "" {
			t.Errorf("%s has no name or no doc tag", path)
		}
		if _, ok := n.tag.Lookup("default"); !ok {
			t.Errorf("%s has no default tag", path)
		}
		if n.kind() == "whole number" && (n.tag.Get("min") == "" || n.tag.Get("max") == "") {
			t.Errorf("%s is a number without bounds", path)
		}
		if other := names[envName(path)]; other != "" {
			t.Errorf("%s and %s share the variable %s", path, other, envName(path))
		}
		names[envName(path)] = path
	})
}

// keysShown counts the keys that the file shows: a list of sections is one.
func keysShown(n *node) (keys int) {
	for _, c := range n.children {
		if c.isKey() || c.list {
			keys++
		} else {
			keys += keysShown(c)
		}
	}
	return keys
}

// walkKeys visits every key of the schema, one item's of each list included.
func walkKeys(visit func(path string, n *node)) {
	var walk func(n *node, path string)
	walk = func(n *node, path string) {
		for _, c := range n.children {
			p := join(path, c.name)
			switch {
			case c.isKey():
				visit(p, c)
			case c.list:
				walk(c, item(p, 0))
			default:
				walk(c, p)
			}
		}
	}
	walk(schema(), "")
}

func loadFile(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Load(Sources{File: writeFile(t, text)})
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return c
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rookery.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
