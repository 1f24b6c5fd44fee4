package configs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The pages name keys of this configuration, and only such that exist.
func TestPagesNameKeysThatExist(t *testing.T) {
	var keys, sections []string
	walkKeys(func(path string, _ *node) {
		keys = append(keys, path)
		section, _, _ := strings.Cut(path, ".")
		sections = append(sections, section)
	})
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	key := regexp.MustCompile("`([a-z]+(?:\\.[a-z_]+)+)`")
	named := 0
	for _, page := range append(pages, "../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range key.FindAllStringSubmatch(string(text), -1) {
			section, _, _ := strings.Cut(m[1], ".")
			if !slices.Contains(sections, section) || strings.HasSuffix(m[1], ".yaml") {
				continue
			}
			named++
			group := func(k string) bool {
				return k == m[1] || strings.HasPrefix(k, m[1]+".") || strings.HasPrefix(k, m[1]+"[")
			}
			if !slices.ContainsFunc(keys, group) {
				t.Errorf("%s names %s, which is no key", filepath.Base(page), m[1])
			}
		}
	}
	if named < 5 {
		t.Errorf("only %d keys found on the pages", named)
	}
}

// Every callback that the page describes may be named in callbacks.commands, and no other.
func TestPageDescribesCallbacks(t *testing.T) {
	text, err := os.ReadFile("../docs/callbacks.md")
	if err != nil {
		t.Fatal(err)
	}
	var described []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([A-Z][a-z]+\\.[A-Za-z]+)`").FindAllSubmatch(text, -1) {
		described = append(described, string(m[1]))
	}
	slices.Sort(described)
	if !slices.Equal(described, callbackNames) {
		t.Errorf("the page describes %q, known are %q", described, callbackNames)
	}
}
