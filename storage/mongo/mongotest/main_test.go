package main

import (
	"bufio"
	"io"
	"strings"
	"testing"
)

func TestServesUntilItsInputEnds(t *testing.T) {
	stdin, hold := io.Pipe()
	out, stdout := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- run(t.Context(), []string{"-dir", t.TempDir()}, stdin, stdout) }()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.Contains(line, " mongodb://127.0.0.1:") {
		t.Fatalf("first line %q, %v; want a pid and a URI", line, err)
	}
	hold.Close()
	if err := <-done; err != nil {
		t.Errorf("run = %v after its input ended", err)
	}
}

func TestRefusesToServeFromNowhere(t *testing.T) {
	if err := run(t.Context(), nil, strings.NewReader(""), io.Discard); err == nil {
		t.Error("run without a place for the data did not fail")
	}
}
