package configs

import (
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const envPrefix = "ROOKERY_"

// FileVariable names the configuration file where the flag --config is not given. It is the
// only variable that is not a key.
const FileVariable = envPrefix + "CONFIG"

// testPrefix starts the variables that the project's own tests read.
const testPrefix = envPrefix + "TEST_"

// Kubernetes gives every container these for a service that is called rookery or rookery-….
var kubernetes = regexp.MustCompile(`^ROOKERY_(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// env applies the variables that start with ROOKERY_.
func (l *loader) env(environ []string) {
	// In order of their names, so that the same mistakes always give the same error.
	for _, pair := range slices.Sorted(slices.Values(environ)) {
		name, value, _ := strings.Cut(pair, "=")
		rest, ours := strings.CutPrefix(name, envPrefix)
		if !ours || name == FileVariable || strings.HasPrefix(name, testPrefix) {
			continue
		}
		v, path, ok := l.lookup(schema(), reflect.ValueOf(l.cfg).Elem(), "", rest)
		switch {
		case ok:
			l.set(v, path, value, origin{text: name, self: true})
		case !kubernetes.MatchString(name):
			l.problems = append(l.problems, &Error{Origin: name, Problem: "unknown variable"})
		}
	}
}

// lookup finds the key below n that the rest of a variable's name spells, and its path. Lists
// of sections grow to hold the index that is named.
func (l *loader) lookup(n *node, v reflect.Value, path, rest string) (reflect.Value, string, bool) {
	for _, c := range n.children {
		f, p, name := v.Field(c.index), join(path, c.name), strings.ToUpper(c.name)
		if c.isKey() {
			if rest == name {
				return f, p, true
			}
			continue
		}
		below, ok := strings.CutPrefix(rest, name+"_")
		if !ok {
			continue
		}
		if c.list {
			var i int
			if i, below, ok = cutIndex(below); !ok || !c.has(below) {
				continue
			}
			grow(c, f, i+1)
			f, p = f.Index(i), item(p, i)
		}
		if found, at, ok := l.lookup(c, f, p, below); ok {
			return found, at, true
		}
	}
	return reflect.Value{}, "", false
}

// has reports whether name, as variables spell it, is a key of one item of the list n.
func (n *node) has(name string) bool {
	return slices.ContainsFunc(n.children, func(c *node) bool { return c.isKey() && strings.ToUpper(c.name) == name })
}

// maxItems bounds a list of sections that variables make.
const maxItems = 100

func cutIndex(s string) (i int, rest string, ok bool) {
	digits, rest, ok := strings.Cut(s, "_")
	i, err := strconv.Atoi(digits)
	return i, rest, ok && err == nil && i >= 0 && i < maxItems && digits == strconv.Itoa(i)
}

// grow makes the list v at least size items long; new items have their defaults.
func grow(n *node, v reflect.Value, size int) {
	for v.Len() < size {
		fresh := reflect.New(n.typ).Elem()
		n.setDefaults(fresh)
		v.Set(reflect.Append(v, fresh))
	}
}

// item is the path of one section of a list.
func item(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }
