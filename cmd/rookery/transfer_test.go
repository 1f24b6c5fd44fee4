package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rookery-im/rookery/configs"
)

// TestExportImport moves a group's messages by way of a file from a running server into another
// group, and stops both on the way.
func TestExportImport(t *testing.T) {
	data := t.TempDir()
	s := startServer(t, nil, "--data-dir", data)
	tool := func(args ...string) error {
		cmd := rookery(t, nil, append(args, "--data-dir", data, "--url", "http://"+s.addrs["http"])...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	must := func(args ...string) {
		t.Helper()
		if err := tool(args...); err != nil {
			t.Fatalf("%q: %v", args, err)
		}
	}
	cfg := configs.Default()
	cfg.App.DataDir = data
	c, err := newRESTClient(cfg, "http://"+s.addrs["http"])
	if err != nil {
		t.Fatal(err)
	}
	rest := func(path string, request any) {
		t.Helper()
		if err := c.call(t.Context(), path, request, new(map[string]any)); err != nil {
			t.Fatal(err)
		}
	}
	type o = map[string]any
	rest("im_open_login_svc/account_import", o{"UserID": "bob"})
	long := time.Now().Unix() - 1000
	for _, id := range []string{"from", "to"} {
		rest("group_open_http_svc/import_group", o{"Type": "Public", "Name": "n", "GroupId": id, "CreateTime": long})
	}
	const messages = 53
	for n := range messages {
		rest("group_open_http_svc/import_group_msg", o{"GroupId": "from", "MsgList": []o{{
			"From_Account": "bob", "SendTime": long + int64(n), "Random": n, "CloudCustomData": "c",
			"MsgBody": []o{{"MsgType": "TIMTextElem", "MsgContent": o{"Text": fmt.Sprint("message ", n)}}},
		}}})
	}
	rest("group_open_http_svc/group_msg_recall", o{"GroupId": "from", "MsgSeqList": []o{{"MsgSeq": 5}}})

	whole, file := filepath.Join(data, "whole.jsonl"), filepath.Join(data, "file.jsonl")
	must("export", "--group", "from", "--out", whole)
	want, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(want, []byte("\n")); n != messages-1 || bytes.Contains(want, []byte(`message 4"`)) {
		t.Fatalf("%d lines, want %d without what was recalled:\n%s", n, messages-1, want)
	}
	// Stopped in the middle of a line, it goes on.
	if err := os.WriteFile(file, want[:len(want)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	must("export", "--group", "from", "--out", file)
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
		t.Errorf("resumed: %v\n%s\nwant\n%s", err, got, want)
	}
	part := filepath.Join(data, "part.jsonl")
	at := func(n int64) string { return time.Unix(long+n, 0).UTC().Format(time.RFC3339) }
	must("export", "--group", "from", "--out", part, "--from", at(30), "--to", at(33))
	if got, err := os.ReadFile(part); err != nil || bytes.Count(got, []byte("\n")) != 3 || !bytes.Contains(got, []byte(`message 30"`)) || !bytes.Contains(got, []byte(`message 32"`)) {
		t.Errorf("from 30 to 33: %v\n%s", err, got)
	}

	// The import is stopped by a line that is cut off, then goes on with the whole file.
	if err := os.WriteFile(file, append(bytes.Clone(want[:len(want)/2]), '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := tool("import", "--group", "to", file); err == nil {
		t.Error("a broken file was imported")
	}
	if next, err := c.nextSeq(t.Context(), "to"); err != nil || next != 22 {
		t.Errorf("after the broken import NextMsgSeq = %d, %v; want 22", next, err)
	}
	if err := os.WriteFile(file, want, 0o600); err != nil {
		t.Fatal(err)
	}
	must("import", "--group", "to", file)
	must("import", "--group", "to", file) // once more adds nothing
	back := filepath.Join(data, "back.jsonl")
	must("export", "--group", "to", "--out", back)
	got, err := os.ReadFile(back)
	if err != nil {
		t.Fatal(err)
	}
	for n := range messages {
		line := fmt.Appendf(nil, `"SendTime":%d,"Random":%d,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"message %d"}}],"CloudCustomData":"c"`, long+int64(n), n, n)
		if found := bytes.Count(got, line); found != 1 && n != 4 || found != 0 && n == 4 {
			t.Errorf("message %d was imported %d times", n, found)
		}
	}
	if err := tool("import", "--group", "from", file); err == nil {
		t.Error("the state of another import was taken")
	}
	if err := tool("export", "--group", "none"); err == nil || !strings.HasSuffix(err.Error(), `: rookery: 10010: group "none" does not exist`+"\n") {
		t.Errorf("export of a group that does not exist: %v", err)
	}
	// A group that was created later than the messages says so.
	rest("group_open_http_svc/create_group", o{"Type": "Public", "Name": "n", "GroupId": "late"})
	if err := tool("import", "--group", "late", part); err == nil || !strings.Contains(err.Error(), "before the group was created") {
		t.Errorf("import into a group that is younger: %v", err)
	}
	// One that was created between them takes none, so that the import can begin anew.
	rest("group_open_http_svc/import_group", o{"Type": "Public", "Name": "n", "GroupId": "between", "CreateTime": long + 31})
	copied := filepath.Join(data, "copied.jsonl")
	if err := os.Link(part, copied); err != nil {
		t.Fatal(err)
	}
	if err := tool("import", "--group", "between", copied); err == nil || !strings.Contains(err.Error(), "before the group was created") {
		t.Errorf("import into a group that is younger than the first message: %v", err)
	}
	if next, err := c.nextSeq(t.Context(), "between"); err != nil || next != 1 {
		t.Errorf("after the refused import NextMsgSeq = %d, %v; want 1", next, err)
	}
}
