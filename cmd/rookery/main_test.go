package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	for name, test := range map[string]struct {
		args   []string
		code   int
		stdout string // regular expressions
		stderr string
	}{
		"help":            {nil, 0, `(?s)Usage:.*version`, `^$`},
		"version":         {[]string{"version"}, 0, `^rookery \S+ go\S+ \w+/\w+\n$`, `^$`},
		"version as flag": {[]string{"--version"}, 0, `^rookery \S+ go\S+ \w+/\w+\n$`, `^$`},
		"unknown command": {[]string{"fly"}, 1, `^$`, `^rookery: [^\n]*"fly"[^\n]*\n$`},
		"unknown bench":   {[]string{"bench", "fly"}, 1, `^$`, `^rookery: [^\n]*"fly"[^\n]*"rookery bench"\n$`},
		"unknown outbox":  {[]string{"outbox", "fly"}, 1, `^$`, `^rookery: [^\n]*"fly"[^\n]*"rookery outbox"\n$`},
		"unknown push":    {[]string{"push", "fly"}, 1, `^$`, `^rookery: [^\n]*"fly"[^\n]*"rookery push"\n$`},
		"import nothing":  {[]string{"import", "--group", "g"}, 1, `^$`, `^rookery: one FILE [^\n]*\n$`},
		"unknown help":    {[]string{"help", "fly"}, 1, `^$`, `^rookery: [^\n]*"fly"[^\n]*\n$`},
		"unknown topic":   {[]string{"help", "push", "fly"}, 1, `^$`, `^rookery: [^\n]*"fly"[^\n]*"rookery push"\n$`},
		"help command":    {[]string{"help", "push", "test"}, 0, `(?s)rookery push test.*--help`, `^$`},
		"help of a group": {[]string{"push"}, 0, `(?s)Usage:.*test`, `^$`},
		"unknown flag":    {[]string{"version", "--loud"}, 1, `^$`, `^rookery: [^\n]*--loud[^\n]*\n$`},
		"extra argument":  {[]string{"version", "now"}, 1, `^$`, `^rookery: [^\n]*"now"[^\n]*\n$`},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr strings.Builder
			code := run(t.Context(), test.args, &stdout, &stderr)
			if code != test.code || !regexp.MustCompile(test.stdout).MatchString(stdout.String()) ||
				!regexp.MustCompile(test.stderr).MatchString(stderr.String()) {
				t.Errorf("run(%q) = %d\nstdout: %q, want %s\nstderr: %q, want %s",
					test.args, code, stdout.String(), test.stdout, stderr.String(), test.stderr)
			}
		})
	}
}

// TestToolsMakeNothing runs what needs a server's data folder where there is none.
func TestToolsMakeNothing(t *testing.T) {
	for _, args := range [][]string{
		{"outbox", "list"},
		{"outbox", "retry", "--all"},
		{"export", "--group", "g"},
		{"import", "--group", "g", "main.go"},
		{"push", "test", "--user", "bob"},
	} {
		dir := filepath.Join(t.TempDir(), "data")
		var stdout, stderr strings.Builder
		code := run(t.Context(), append(args, "--data-dir", dir), &stdout, &stderr)
		if code != 1 || stdout.Len() > 0 || !strings.Contains(stderr.String(), "is app.data_dir that of the server?") {
			t.Errorf("%q: exit code %d\n%s%s", args, code, stdout.String(), stderr.String())
		}
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: the folder: %v", args, err)
		}
	}
}

func TestOneLine(t *testing.T) {
	err := errors.Join(errors.New("app.sdkappid: 0 is not positive"), errors.New("two\n\tlines\n"))
	if got, want := oneLine(err), "app.sdkappid: 0 is not positive; two; lines"; got != want {
		t.Errorf("oneLine = %q, want %q", got, want)
	}
}
