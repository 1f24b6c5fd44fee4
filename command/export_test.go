package command_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"path"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage/storagetest"
)

type historyAnswer struct {
	ErrorCode int
	File      []struct {
		URL, ExpireTime, FileMD5, GzipMD5 string
		FileSize, GzipSize                int
	}
}

func TestHistoryExport(t *testing.T) {
	w := newWorld(t, command.Config{})
	dir := t.TempDir()
	x, err := command.NewExporter(w.store, command.ExportConfig{Dir: dir, SDKAppID: 1400000001, Key: []byte("k")}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() })
	table := command.New(command.Env{Store: w.store, Pipeline: w.pipeline, Exporter: x}, command.Config{SDKAppID: 1400000001})
	ask := func(chat, hour string) historyAnswer {
		t.Helper()
		call := &command.Call{Caller: "administrator", Admin: true, BaseURL: "https://im.example"}
		raw := table.Call(t.Context(), call, "open_msg_svc", "get_history", fmt.Appendf(nil, `{"ChatType":%q,"MsgTime":%q}`, chat, hour))
		var a historyAnswer
		if err := json.Unmarshal(raw, &a); err != nil {
			t.Fatalf("answer %s: %v", raw, err)
		}
		return a
	}

	w.accepted(t, "", "im_open_login_svc/account_import", `{"UserID":"alice"}`)
	for _, id := range []string{"a", "b"} {
		w.accepted(t, "", g+"create_group", fmt.Sprintf(`{"Type":"Public","Name":"n","GroupId":%q,"Owner_Account":"alice"}`, id))
	}
	// Both hours are in the past, whatever the time is now.
	hour := time.Now().Add(-3 * time.Hour).Truncate(time.Hour)
	for i := range 40 {
		body := fmt.Sprintf(`{"GroupId":%q,"MsgList":[{"From_Account":"alice","SendTime":%d,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"<%d>\n"}}]}]}`,
			[]string{"a", "b"}[i%2], hour.Unix()+int64(i/2)*60+int64(i/38)*3600, i)
		if i == 0 { // groups must be older than their messages
			for _, id := range []string{"a", "b"} {
				w.accepted(t, "", g+"destroy_group", fmt.Sprintf(`{"GroupId":%q}`, id))
				w.accepted(t, "", g+"import_group", fmt.Sprintf(`{"Type":"Public","Name":"n","GroupId":%q,"CreateTime":1}`, id))
			}
		}
		w.accepted(t, "", g+"import_group_msg", body)
	}
	w.accepted(t, "", g+"group_msg_recall", `{"GroupId":"a","MsgSeqList":[{"MsgSeq":2}]}`)

	label := hour.Format("2006010215")
	if a := ask("Group", label); a.ErrorCode != 1004 {
		t.Errorf("before the export: %+v, want code 1004", a)
	}
	if err := x.Export(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		chat, hour string
		code       int
	}{{"Group", "2020010100", 1004}, {"Group", "20200101", 1002}, {"Group", "202001011", 1002}, {"Room", label, 1002}, {"C2C", label, 1004}} {
		if a := ask(test.chat, test.hour); a.ErrorCode != test.code {
			t.Errorf("%s %s: %+v, want code %d", test.chat, test.hour, a, test.code)
		}
	}

	a := ask("Group", label)
	if a.ErrorCode != 0 || len(a.File) != 1 || !strings.HasPrefix(a.File[0].URL, "https://im.example/download/") {
		t.Fatalf("answer %+v", a)
	}
	file := a.File[0]
	u, err := url.Parse(file.URL)
	if err != nil {
		t.Fatal(err)
	}
	name, expires, sign := path.Base(u.Path), u.Query().Get("expires"), u.Query().Get("sign")
	f, err := x.Open(name, expires, sign, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	zipped, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(zipped))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	sum := func(b []byte) string { s := md5.Sum(b); return hex.EncodeToString(s[:]) }
	if file.FileSize != len(plain) || file.GzipSize != len(zipped) || file.FileMD5 != sum(plain) || file.GzipMD5 != sum(zipped) {
		t.Errorf("sizes and sums %+v do not fit the file", file)
	}
	checkExport(t, plain, label, 37) // 38 in that hour, less one recalled
	if want := `"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"<0>\n"}}]`; !bytes.Contains(plain, []byte(want)) {
		t.Errorf("no message has its body as it was sent, %s", want)
	}

	for what, args := range map[string][3]string{
		"another file": {"x" + name, expires, sign}, "a longer time": {name, expires + "0", sign}, "no time": {name, "", sign}, "another sum": {name, expires, "00"},
	} {
		if f, err := x.Open(args[0], args[1], args[2], time.Now()); !errors.Is(err, command.ErrExportRefused) {
			t.Errorf("%s: %v, %v", what, f, err)
		}
	}
	if _, err := x.Open(name, expires, sign, time.Now().Add(25*time.Hour)); !errors.Is(err, command.ErrExportRefused) {
		t.Errorf("after its time: %v", err)
	}
	if err := x.Export(t.Context(), time.Now().Add(8*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Open(name, expires, sign, time.Now()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("when it is too old: %v", err)
	}
}

// TestHistoryExportAgain imports into hours that were exported already.
func TestHistoryExportAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := slog.New(slog.DiscardHandler)
		store := storagetest.NewMemory()
		admins := []group.Account{"administrator"}
		pipeline := hooks.New(store, hooks.Config{Admins: admins}, log)
		x, err := command.NewExporter(store, command.ExportConfig{Dir: t.TempDir(), Key: []byte("k")}, log)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- x.Run(ctx) }()
		defer func() {
			stop()
			if err := errors.Join(<-ended, pipeline.Close(context.WithoutCancel(ctx)), x.Close()); err != nil {
				t.Error(err)
			}
		}()
		table := command.New(command.Env{Store: store, Pipeline: pipeline, Exporter: x}, command.Config{Admins: admins})
		call := func(service, name, body string) (a historyAnswer) {
			t.Helper()
			raw := table.Call(ctx, &command.Call{Caller: "administrator", Admin: true}, service, name, []byte(body))
			if err := json.Unmarshal(raw, &a); err != nil {
				t.Fatalf("answer %s: %v", raw, err)
			}
			return a
		}
		wait := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		send := func(at time.Time) {
			t.Helper()
			body := fmt.Sprintf(`{"GroupId":"g","MsgList":[{"From_Account":"alice","SendTime":%d,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]}]}`, at.Unix())
			if a := call("group_open_http_svc", "import_group_msg", body); a.ErrorCode != 0 {
				t.Fatalf("import: %+v", a)
			}
		}
		size := func(hour time.Time) (bytes int) { // 0: there is no file
			t.Helper()
			a := call("open_msg_svc", "get_history", fmt.Sprintf(`{"ChatType":"Group","MsgTime":%q}`, hour.Format("2006010215")))
			switch {
			case a.ErrorCode == 0 && len(a.File) == 1:
				return a.File[0].FileSize
			case a.ErrorCode != 1004:
				t.Errorf("get_history: %+v", a)
			}
			return 0
		}

		wait(10 * time.Minute) // every hour that has ended was exported, without a message
		call("group_open_http_svc", "import_group", `{"Type":"Public","Name":"n","GroupId":"g","CreateTime":1}`)
		now := time.Now()
		hour := now.Add(-3 * time.Hour).Truncate(time.Hour)
		send(hour)
		send(hour.Add(time.Hour))
		if size(hour) != 0 {
			t.Error("there is a file before the export")
		}
		wait(3 * time.Second)
		one := size(hour)
		if one == 0 || size(hour.Add(time.Hour)) == 0 {
			t.Error("there is no file after the export")
		}
		send(hour.Add(time.Hour + time.Minute))
		if size(hour.Add(time.Hour)) != 0 || size(hour) != one {
			t.Error("only the hour that was imported into waits for its export")
		}
		wait(3 * time.Second)
		if two := size(hour.Add(time.Hour)); two <= one {
			t.Errorf("a file with two messages has %d bytes, one with one has %d", two, one)
		}
		send(now) // in an hour that goes on
		wait(3 * time.Second)
		if size(now) != 0 {
			t.Error("there is a file of this hour")
		}
		wait(70 * time.Minute)
		if size(now) == 0 {
			t.Error("there is no file of the hour that has ended since")
		}
	})
}

// checkExport reads a file as one document and line by line.
func checkExport(t *testing.T, plain []byte, label string, n int) {
	t.Helper()
	var doc struct {
		SDKAppID          int64 `json:"SdkAppId"`
		ChatType, MsgTime string
		MsgList           []map[string]any
	}
	if err := json.Unmarshal(plain, &doc); err != nil {
		t.Fatalf("%s\n%v", plain, err)
	}
	if doc.SDKAppID != 1400000001 || doc.ChatType != "Group" || doc.MsgTime != label || len(doc.MsgList) != n {
		t.Errorf("header %+v, %d messages; want %d", doc, len(doc.MsgList), n)
	}
	lines := strings.Split(strings.TrimSuffix(string(plain), "\n"), "\n")
	if len(lines) != n+2 || lines[0] != fmt.Sprintf(`{"SdkAppId":1400000001,"ChatType":"Group","MsgTime":"%s","MsgList":[`, label) || lines[n+1] != "]}" {
		t.Fatalf("%d lines, first %q, last %q", len(lines), lines[0], lines[len(lines)-1])
	}
	for i, line := range lines[1 : n+1] {
		text, comma := strings.CutSuffix(line, ",")
		if comma != (i < n-1) || !json.Valid([]byte(text)) {
			t.Errorf("line %d: %s", i+2, line)
		}
	}
	first := doc.MsgList[0]
	if first["From_Account"] != "alice" || first["GroupId"] == nil || first["MsgTimestamp"] == nil || first["MsgSeq"] == nil || first["MsgBody"] == nil || len(first) != 5 {
		t.Errorf("message %v", first)
	}
}
