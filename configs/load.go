package configs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
)

// An Error is one thing that is wrong with the configuration, in one line.
type Error struct {
	Origin  string // where the operator wrote it: "rookery.yaml:12", a variable, a flag; empty: nowhere
	Key     string // dotted; empty if Origin says it all
	Problem string // never holds a secret
}

func (e *Error) Error() string {
	s := e.Problem
	if e.Key != "" {
		s = e.Key + ": " + s
	}
	if e.Origin != "" {
		s = e.Origin + ": " + s
	}
	return s
}

// A Flag is a key that was given on the command line.
type Flag struct {
	Name  string // as the operator wrote it, "--mqtt-addr"
	Key   string
	Value string
}

// Sources are what a configuration is made of.
type Sources struct {
	File  string   // path of the YAML file; empty: none
	Env   []string // as os.Environ returns it; only names that start with ROOKERY_ are looked at
	Flags []Flag
}

// Default returns the configuration that no source has changed. It belongs to the caller.
func Default() *Config {
	c := new(Config)
	schema().setDefaults(reflect.ValueOf(c).Elem())
	return c
}

// Load reads the sources, later ones winning, and validates the result. The error joins one
// *Error for each thing that is wrong; or it is the one error of a file that can't be read.
func Load(src Sources) (*Config, error) {
	l := &loader{cfg: Default(), origins: map[string]origin{}}
	if src.File != "" {
		data, err := readFile(src.File)
		if err != nil {
			return nil, err
		}
		l.file(src.File, data)
	}
	l.env(src.Env)
	for _, f := range src.Flags {
		l.flag(f)
	}
	for _, p := range l.cfg.problems() {
		if o, ok := l.origins[p.Key]; ok {
			p = o.problem(p.Key, p.Problem)
			if o.bad {
				continue // the value that was written could not even be read, and that is reported
			}
		}
		l.problems = append(l.problems, p)
	}
	if err := joined(l.problems); err != nil {
		return nil, err
	}
	return l.cfg, nil
}

// A loader gathers values and what is wrong with them.
type loader struct {
	cfg      *Config
	origins  map[string]origin // where each key's value comes from; none: the default
	problems []*Error
}

type origin struct {
	text string // "rookery.yaml:12", a variable, a flag
	self bool   // text alone names the key
	bad  bool   // the value was refused
}

func (o origin) problem(key, problem string) *Error {
	if o.self {
		key = ""
	}
	return &Error{Origin: o.text, Key: key, Problem: problem}
}

// set gives the key at path its value from one source.
func (l *loader) set(v reflect.Value, path, text string, o origin) {
	if err := setText(v, text); err != nil {
		o.bad = true
		l.problems = append(l.problems, o.problem(path, err.Error()))
	}
	l.origins[path] = o
}

func (l *loader) flag(f Flag) {
	n, v := schema(), reflect.ValueOf(l.cfg).Elem()
	for name := range strings.SplitSeq(f.Key, ".") {
		if n = n.child(name); n == nil {
			panic("configs: flag " + f.Name + " is for " + f.Key + ", which does not exist")
		}
		v = v.Field(n.index)
	}
	l.set(v, f.Key, f.Value, origin{text: f.Name, self: true})
}

// maxFileSize bounds what is read of a configuration file.
const maxFileSize = 1 << 20

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	if len(data) > maxFileSize {
		return nil, fmt.Errorf("configuration file: %s has more than %v", path, Size(maxFileSize))
	}
	return data, nil
}

func joined(problems []*Error) error {
	errs := make([]error, len(problems))
	for i, p := range problems {
		errs[i] = p
	}
	return errors.Join(errs...)
}
