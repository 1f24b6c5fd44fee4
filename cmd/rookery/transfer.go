package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/rookery-im/rookery/configs"
	"github.com/rookery-im/rookery/usersig"
)

// A transferred is one line of an exported file: what import_group_msg takes of a message, with
// the place that it had.
type transferred struct {
	GroupID string          `json:"GroupId"`
	Seq     int64           `json:"MsgSeq"`
	From    string          `json:"From_Account"`
	Time    int64           `json:"SendTime"` // Unix seconds
	Random  uint32          `json:"Random"`
	Body    json.RawMessage `json:"MsgBody"`
	Cloud   string          `json:"CloudCustomData,omitempty"`
}

// pageLen is how many messages one call of the history or of an import may carry.
const pageLen = 20

// urlUsage is what --url means, to every command that has it.
const urlUsage = "base URL of the REST API (default: the configured HTTP address)"

// A restClient calls a running server as an app admin.
type restClient struct {
	base, query string
	http        http.Client
}

// restFlags adds the flags that say which server to call.
func restFlags(cmd *cobra.Command) func() (*restClient, error) {
	flags := newConfigFlags(cmd.Flags(), dataDirFlag)
	base := cmd.Flags().String("url", "", urlUsage)
	return func() (*restClient, error) {
		cfg, err := flags.load()
		if err != nil {
			return nil, err
		}
		return newRESTClient(cfg, cmp.Or(*base, serverURL(cfg)))
	}
}

func newRESTClient(cfg *configs.Config, base string) (*restClient, error) {
	if len(cfg.App.Admins) == 0 {
		return nil, errors.New("app.admins: is empty, so that nobody may call the server")
	}
	secret, err := serverSecret(cfg.App)
	if err != nil {
		return nil, err
	}
	caller := cfg.App.Admins[0]
	sig, err := usersig.Generate(usersig.App{ID: cfg.App.SDKAppID, Secret: secret.Reveal()}, caller, time.Now(), 24*time.Hour, nil)
	if err != nil {
		return nil, err
	}
	q := url.Values{"sdkappid": {strconv.FormatInt(cfg.App.SDKAppID, 10)}, "identifier": {caller}, "usersig": {sig}, "contenttype": {"json"}}
	return &restClient{strings.TrimSuffix(base, "/"), q.Encode(), http.Client{Timeout: time.Minute}}, nil
}

// call makes one call; what the server refuses is an error.
func (c *restClient) call(ctx context.Context, path string, request, response any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	address := fmt.Sprintf("%s/v4/%s?%s&random=%d", c.base, path, c.query, rand.Uint32())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("--url: %s is no address of a server", c.base)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the address: it holds a UserSig
		}
		return fmt.Errorf("%s: %w", c.base, err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return err
	}
	var envelope struct {
		ErrorCode int
		ErrorInfo string
	}
	if err := json.Unmarshal(raw, &envelope); err != nil {
		return fmt.Errorf("%s: HTTP %d and no JSON: is it a Rookery server?", c.base, resp.StatusCode)
	}
	if envelope.ErrorCode != 0 {
		return fmt.Errorf("%s: %d: %s", path, envelope.ErrorCode, envelope.ErrorInfo)
	}
	return json.Unmarshal(raw, response)
}

// nextSeq returns the number that the group's next message will get.
func (c *restClient) nextSeq(ctx context.Context, id string) (int64, error) {
	var info struct {
		GroupInfo []struct {
			NextMsgSeq int64
			ErrorCode  int
			ErrorInfo  string
		}
	}
	if err := c.call(ctx, "group_open_http_svc/get_group_info", map[string]any{"GroupIdList": []string{id}}, &info); err != nil {
		return 0, err
	}
	if len(info.GroupInfo) != 1 {
		return 0, fmt.Errorf("group %q: the server answered with %d groups", id, len(info.GroupInfo))
	}
	if g := info.GroupInfo[0]; g.ErrorCode != 0 {
		return 0, fmt.Errorf("%d: %s", g.ErrorCode, g.ErrorInfo)
	}
	return info.GroupInfo[0].NextMsgSeq, nil
}

// A historic is a message of the history.
type historic struct {
	From   string          `json:"From_Account"`
	Place  int             `json:"IsPlaceMsg"`
	System int             `json:"IsSystemMsg"`
	Seq    int64           `json:"MsgSeq"`
	Time   int64           `json:"MsgTimeStamp"`
	Random uint32          `json:"MsgRandom"`
	Body   json.RawMessage `json:"MsgBody"`
	Cloud  string          `json:"CloudCustomData"`
}

// page returns up to n messages from seq upwards, placeholders among them.
func (c *restClient) page(ctx context.Context, id string, seq int64, n int) ([]historic, error) {
	var out struct{ RspMsgList []historic }
	err := c.call(ctx, "group_open_http_svc/group_msg_get_simple",
		map[string]any{"GroupId": id, "ReqMsgSeq": seq, "ReqMsgNumber": n, "Ascending": 1, "WithRecalledMsg": 1}, &out)
	return out.RspMsgList, err
}

func newExport() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export --group ID [--from TIME] [--to TIME] [--out FILE]",
		Short: "Write a group's messages of a running server as JSON lines",
		Long: `Write a group's messages of a running server as JSON lines, oldest first, for rookery import.

Tips and messages that were recalled are left out. With --out, a stopped export goes on after
the last whole line of the file. Times are 2006-01-02 or 2006-01-02T15:04:05Z (RFC 3339).`,
		Args: cobra.NoArgs,
	}
	connect := restFlags(cmd)
	id := cmd.Flags().String("group", "", "GroupId")
	from := cmd.Flags().String("from", "", "the first instant (default: the oldest message)")
	to := cmd.Flags().String("to", "", "the instant before which to stop (default: the newest message)")
	out := cmd.Flags().String("out", "", "file to write or to go on with (default: standard output)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if *id == "" {
			return errors.New("--group: is needed")
		}
		begin, err := instant("--from", *from, 0)
		if err != nil {
			return err
		}
		end, err := instant("--to", *to, 1<<62)
		if err != nil {
			return err
		}
		c, err := connect()
		if err != nil {
			return err
		}
		w, after := cmd.OutOrStdout(), int64(0)
		if *out != "" {
			f, last, err := resumeFile(*out, *id)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, f.Sync(), f.Close()) }()
			w, after = f, last
		}
		n, err := exportGroup(cmd.Context(), c, *id, after, begin, end, w, cmd.ErrOrStderr())
		switch {
		case err != nil && n == 0:
			return err
		case err != nil:
			return fmt.Errorf("stopped after %d messages: %w", n, err)
		}
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), "%d messages\n", n)
		return err
	}
	return cmd
}

func instant(flag, text string, none int64) (int64, error) {
	if text == "" {
		return none, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t.Unix(), nil
		}
	}
	return 0, fmt.Errorf("%s: %q is neither 2006-01-02 nor 2006-01-02T15:04:05Z", flag, text)
}

// resumeFile opens the file for appending after its last whole line, and returns that line's SEQ.
func resumeFile(name, id string) (f *os.File, last int64, err error) {
	f, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	var whole int64
	r := bufio.NewReader(f)
	for {
		line, rerr := r.ReadBytes('\n')
		if errors.Is(rerr, io.EOF) {
			break // what has no line end was cut off
		}
		if rerr != nil {
			return nil, 0, rerr
		}
		var m transferred
		if err := json.Unmarshal(line, &m); err != nil || m.GroupID != id || m.Seq <= last {
			return nil, 0, fmt.Errorf("--out: %s is not an export of group %q", name, id)
		}
		whole += int64(len(line))
		last = m.Seq
	}
	if err := f.Truncate(whole); err != nil {
		return nil, 0, err
	}
	_, err = f.Seek(whole, io.SeekStart)
	return f, last, err
}

// exportGroup writes the messages after SEQ after whose times are in [begin, end).
func exportGroup(ctx context.Context, c *restClient, id string, after, begin, end int64, w, terminal io.Writer) (n int, err error) {
	next, err := c.nextSeq(ctx, id)
	if err != nil {
		return 0, err
	}
	first, err := firstSince(ctx, c, id, after+1, next, begin)
	if err != nil {
		return 0, err
	}
	bar := progress(terminal, next-first, "exporting")
	defer func() { bar.end(err == nil) }()
	buf := bufio.NewWriter(w)
	for seq := first; seq < next; seq += pageLen {
		page, err := c.page(ctx, id, seq, int(min(pageLen, next-seq)))
		if err != nil {
			return n, errors.Join(err, buf.Flush())
		}
		for _, m := range page {
			if m.Time >= end {
				return n, buf.Flush()
			}
			if m.Place != 0 || m.System != 0 || m.Time < begin || m.Seq >= next {
				continue
			}
			line, err := json.Marshal(transferred{id, m.Seq, m.From, m.Time, m.Random, m.Body, m.Cloud})
			if err != nil {
				return n, err
			}
			if _, err := buf.Write(append(line, '\n')); err != nil {
				return n, err
			}
			n++
		}
		_ = bar.Add(pageLen) // an error is the terminal's, and no reason to stop
	}
	return n, buf.Flush()
}

// firstSince returns the lowest SEQ in [low, high) whose message is not older than begin, or
// high. What has expired has no time: it is older.
func firstSince(ctx context.Context, c *restClient, id string, low, high, begin int64) (int64, error) {
	for low < high {
		mid := low + (high-low)/2
		page, err := c.page(ctx, id, mid, 1)
		if err != nil {
			return 0, err
		}
		if len(page) > 0 && page[0].Time > 0 && page[0].Time >= begin {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low, nil
}

func progress(w io.Writer, total int64, what string) bar {
	return newBar(w, total, what, progressbar.OptionThrottle(100*time.Millisecond))
}

// An importState says where an import began, so that the group's NextMsgSeq tells how far it came.
type importState struct {
	Group string `json:"group"`
	Base  int64  `json:"base"` // NextMsgSeq before the first line
}

func newImport() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import --group ID FILE",
		Short: "Add the messages of an exported file to a group of a running server",
		Long: `Add the messages of an exported file to a group of a running server, telling nobody.

The group must exist: make it by import_group, with a CreateTime that is not later than the
file's first message. Its newest message must not be newer than that one either, and nobody
may send to it meanwhile. The messages are numbered anew. Where the import
began is kept in FILE.import; stopped in the middle, the same command goes on where it was,
and no message is added twice.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("one FILE to import is needed, not %d", len(args))
			}
			return nil
		},
	}
	connect := restFlags(cmd)
	id := cmd.Flags().String("group", "", "GroupId")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *id == "" {
			return errors.New("--group: is needed")
		}
		c, err := connect()
		if err != nil {
			return err
		}
		n, err := importFile(cmd.Context(), c, *id, args[0], cmd.ErrOrStderr())
		switch {
		case err != nil && n == 0:
			return err
		case err != nil:
			return fmt.Errorf("stopped after %d messages; the same command goes on: %w", n, err)
		}
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), "%d messages\n", n)
		return err
	}
	return cmd
}

// importFile returns how many of the file's messages are in the group.
func importFile(ctx context.Context, c *restClient, id, name string, terminal io.Writer) (done int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // it was only read
	next, err := c.nextSeq(ctx, id)
	if err != nil {
		return 0, err
	}
	state, err := openImport(name+".import", id, next)
	if err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	bar := progress(terminal, info.Size(), "importing")
	defer func() { bar.end(err == nil) }()
	had := next - state.Base
	r := bufio.NewReader(f)
	var batch []transferred
	for {
		line, rerr := r.ReadBytes('\n')
		_ = bar.Add(len(line))
		if len(bytes.TrimSpace(line)) > 0 {
			var m transferred
			if err := json.Unmarshal(line, &m); err != nil {
				return done, fmt.Errorf("%s, line %d: %w", name, done+int64(len(batch))+1, err)
			}
			switch {
			case done < had-1: // in the group already
				done++
			case done == had-1:
				if err := sameMessage(ctx, c, id, next-1, m); err != nil {
					return done, err
				}
				done++
			default:
				batch = append(batch, m)
			}
		}
		// The first goes alone: if it is older than the group, younger ones must not get in without it.
		full := len(batch) == pageLen || len(batch) == 1 && done == 0
		if full || rerr != nil && len(batch) > 0 {
			if err := importBatch(ctx, c, id, batch); err != nil {
				return done, err
			}
			done += int64(len(batch))
			batch = batch[:0]
		}
		switch {
		case errors.Is(rerr, io.EOF):
			if done < had {
				return done, fmt.Errorf("group %q has %d messages since the import began, more than %s", id, had, name)
			}
			return done, nil
		case rerr != nil:
			return done, rerr
		}
	}
}

// openImport returns the state in the file, or begins one at next.
func openImport(name, id string, next int64) (*importState, error) {
	raw, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		state := &importState{Group: id, Base: next}
		if raw, err = json.Marshal(state); err != nil {
			return nil, err
		}
		return state, os.WriteFile(name, raw, 0o600)
	}
	if err != nil {
		return nil, err
	}
	state := new(importState)
	if err := json.Unmarshal(raw, state); err != nil || state.Group != id || state.Base > next {
		return nil, fmt.Errorf("%s is of another import: remove it to begin anew", name)
	}
	return state, nil
}

// sameMessage makes sure that the newest message of the group is the line m.
func sameMessage(ctx context.Context, c *restClient, id string, seq int64, m transferred) error {
	page, err := c.page(ctx, id, seq, 1)
	if err != nil {
		return err
	}
	if len(page) == 1 && (page[0].Place != 0 || page[0].From == m.From && page[0].Random == m.Random && page[0].Time == m.Time) {
		return nil
	}
	return fmt.Errorf("group %q has other messages since the import began: nobody may send to it meanwhile", id)
}

func importBatch(ctx context.Context, c *restClient, id string, batch []transferred) error {
	var out struct {
		ImportMsgResult []struct{ Result int }
	}
	if err := c.call(ctx, "group_open_http_svc/import_group_msg", map[string]any{"GroupId": id, "RecentContactFlag": 1, "MsgList": batch}, &out); err != nil {
		return err
	}
	for i, r := range out.ImportMsgResult {
		if r.Result != 0 {
			return fmt.Errorf("the message that had MsgSeq %d was refused with %d (10004: its time lies before the group was created or before its newest message, or in the future)", batch[i].Seq, r.Result)
		}
	}
	return nil
}
