package command

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/hmac"
	"crypto/md5" // the wire format has MD5 sums; nothing depends on their strength
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/wire"
)

// ExportConfig says where and when the hourly files of get_history are made.
type ExportConfig struct {
	Dir      string // made if it is missing
	SDKAppID int64
	// Key signs the addresses of files. It must not be empty.
	Key []byte
	// Delay is how long after its end an hour is exported. Zero means 5 minutes.
	Delay time.Duration
	// Keep is how long files are kept, and how far back hours are exported that have none yet.
	// Zero means 7 days.
	Keep time.Duration
	// Location is where the hours are named. Nil means time.Local. Where summer time ends, the
	// hour that comes twice is exported once, its second half.
	Location *time.Location
}

const (
	exportInterval = time.Minute
	// exportPause is how long after an import into hours that were exported these are exported
	// again; more imports are likely to follow. exportShare is the pause, in terms of what the
	// last such export took, if that is longer; it is at most exportInterval.
	exportPause = 2 * time.Second
	exportShare = 10
	// exportLifetime is how long a file's address is good.
	exportLifetime = 24 * time.Hour
	hourLayout     = "2006010215"

	codeHistoryParameter = 1002
	codeHistoryNone      = 1004
)

// An Exporter writes the group messages of each hour into a file and opens these files for
// those who have a signed address.
//
// A file is complete or it is not there: it is written under another name and renamed. The
// memory that it takes to write one does not depend on its size.
//
// An hour is exported again after messages were imported into it. Until then it counts as not
// exported; addresses of its old file stay good.
type Exporter struct {
	cfg   ExportConfig
	store storage.Store
	log   *slog.Logger
	root  *os.Root
	again chan struct{} // holds a token when an hour is to be exported again

	mu    sync.Mutex
	stale map[int64]bool // by beginning: hours that were changed since their export began, at most those within Keep
}

// NewExporter opens the folder; nothing else happens before Run.
func NewExporter(store storage.Store, cfg ExportConfig, log *slog.Logger) (*Exporter, error) {
	if len(cfg.Key) == 0 {
		return nil, errors.New("command: exports need a key to sign addresses with")
	}
	if cfg.Delay <= 0 {
		cfg.Delay = 5 * time.Minute
	}
	if cfg.Keep <= 0 {
		cfg.Keep = 7 * 24 * time.Hour
	}
	if cfg.Location == nil {
		cfg.Location = time.Local
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("command: exports: %w", err)
	}
	root, err := os.OpenRoot(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("command: exports: %w", err)
	}
	return &Exporter{cfg: cfg, store: store, log: log, root: root, again: make(chan struct{}, 1), stale: make(map[int64]bool)}, nil
}

// Close releases the folder. No method may be called after it.
func (x *Exporter) Close() error { return x.root.Close() }

// Run exports hours as they end or are changed, and removes old files, until ctx ends.
func (x *Exporter) Run(ctx context.Context) error {
	tick := time.NewTicker(exportInterval)
	defer tick.Stop()
	export := func() {
		if err := x.Export(ctx, time.Now()); err != nil && ctx.Err() == nil {
			x.log.Warn("history not exported", "err", err)
		}
	}
	export()
	for pause := exportPause; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			export()
			continue
		case <-x.again:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		began := time.Now()
		export()
		pause = min(max(exportPause, exportShare*time.Since(began)), exportInterval)
	}
}

// changed notes that a message of the time t was added. Whoever adds one calls it afterwards.
func (x *Exporter) changed(t int64, now time.Time) {
	hour := x.hourOf(time.Unix(t, 0))
	if hour.Before(x.first(now)) {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.stale[hour.Unix()] {
		x.stale[hour.Unix()] = true
		// For the next run, should this one end before it has exported the hour.
		if err := x.root.Remove(x.name(hour) + ".json"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			x.log.Warn("export not marked as stale", "hour", x.name(hour), "err", err)
		}
	}
	if !hour.After(x.last(now)) {
		select {
		case x.again <- struct{}{}:
		default:
		}
	}
}

// first and last are the hours that are exported at the instant now.
func (x *Exporter) first(now time.Time) time.Time {
	return x.hourOf(now.Add(-x.cfg.Keep)).Add(time.Hour)
}

func (x *Exporter) last(now time.Time) time.Time {
	return x.hourOf(now.Add(-x.cfg.Delay)).Add(-time.Hour)
}

// Export writes the files that are due at the instant now and removes those that are too old.
func (x *Exporter) Export(ctx context.Context, now time.Time) error {
	first, last := x.first(now), x.last(now)
	var errs []error
	for hour := last; !hour.Before(first) && ctx.Err() == nil; hour = hour.Add(-time.Hour) { // the newest is wanted most
		if _, err := x.meta(hour); err == nil {
			continue
		} else if !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		if err := x.write(ctx, hour); err != nil {
			errs = append(errs, fmt.Errorf("hour %s: %w", x.name(hour), err))
		}
	}
	return errors.Join(append(errs, x.remove(first))...)
}

// hourOf returns the beginning of the hour that t is in.
func (x *Exporter) hourOf(t time.Time) time.Time {
	t = t.In(x.cfg.Location)
	return t.Add(-time.Duration(t.Minute())*time.Minute - time.Duration(t.Second())*time.Second - time.Duration(t.Nanosecond()))
}

// name is the hour as callers write it, and the start of its files' names.
func (x *Exporter) name(hour time.Time) string { return hour.In(x.cfg.Location).Format(hourLayout) }

// exported describes a finished file.
type exported struct {
	Hour     int64 // Unix seconds of its beginning
	Messages int   // 0: there is no file beside this description
	Size     int64
	GzipSize int64
	MD5      string
	GzipMD5  string
}

// meta describes the hour's file; fs.ErrNotExist says that there is none, or one that lacks something.
func (x *Exporter) meta(hour time.Time) (*exported, error) {
	x.mu.Lock()
	stale := x.stale[hour.Unix()]
	x.mu.Unlock()
	if stale {
		return nil, fs.ErrNotExist
	}
	b, err := x.root.ReadFile(x.name(hour) + ".json")
	if err != nil {
		return nil, err
	}
	m := new(exported)
	return m, json.Unmarshal(b, m)
}

// exportedMessage is one line of a file.
type exportedMessage struct {
	From    group.Account   `json:"From_Account"`
	GroupID group.ID        `json:"GroupId"`
	Time    int64           `json:"MsgTimestamp"`
	Seq     group.Seq       `json:"MsgSeq"`
	Body    json.RawMessage `json:"MsgBody"`
}

// write makes the file of an hour, then its description. Tips and messages that were recalled
// are not in it.
func (x *Exporter) write(ctx context.Context, hour time.Time) (err error) {
	start := time.Now()
	name := x.name(hour)
	tmp := name + ".tmp"
	x.mu.Lock()
	delete(x.stale, hour.Unix()) // what comes from now on may be missing in the file
	x.mu.Unlock()
	f, err := x.root.Create(tmp)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), x.root.Remove(tmp))
		}
	}()
	w := newExportWriter(f)
	_, _ = fmt.Fprintf(w, `{"SdkAppId":%d,"ChatType":"Group","MsgTime":"%s","MsgList":[`+"\n", x.cfg.SDKAppID, name)
	m := &exported{Hour: hour.Unix()}
	var line []byte
	for msg, err := range x.store.Hour(ctx, hour.Unix()) {
		if err != nil {
			return err
		}
		if msg.State != group.Live || msg.Has(group.System) {
			continue
		}
		if line, err = wire.Append(line[:0], exportedMessage{msg.From, msg.Group, msg.Time, msg.Seq, msg.Body}); err != nil {
			return err
		}
		if m.Messages > 0 {
			w.write([]byte(",\n"))
		}
		w.write(line)
		m.Messages++
	}
	w.write([]byte("\n]}\n"))
	if err := w.finish(m); err != nil {
		return err
	}
	if m.Messages > 0 { // the first start looks at many hours without any
		if err := f.Sync(); err != nil {
			return err
		}
	}
	if err := f.Close(); err != nil {
		return err
	}
	if m.Messages > 0 {
		if err := x.root.Rename(tmp, name+".gz"); err != nil {
			return err
		}
	} else if err := x.root.Remove(tmp); err != nil {
		return err
	}
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := x.root.WriteFile(name+".json.tmp", b, 0o600); err != nil {
		return err
	}
	if done, err := x.publish(hour); err != nil || !done {
		return err
	}
	if m.Messages > 0 {
		x.log.Info("history exported", "hour", name, "messages", m.Messages, "bytes", m.GzipSize, "dur", time.Since(start))
	}
	return nil
}

// publish makes an hour count as exported, unless it was changed meanwhile.
func (x *Exporter) publish(hour time.Time) (done bool, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.stale[hour.Unix()] {
		return false, nil
	}
	name := x.name(hour)
	return true, x.root.Rename(name+".json.tmp", name+".json")
}

// remove deletes the files of hours before first.
func (x *Exporter) remove(first time.Time) error {
	x.mu.Lock()
	for hour := range x.stale {
		if hour < first.Unix() {
			delete(x.stale, hour)
		}
	}
	x.mu.Unlock()
	entries, err := fs.ReadDir(x.root.FS(), ".")
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if len(e.Name()) < len(hourLayout) {
			continue
		}
		hour, err := time.ParseInLocation(hourLayout, e.Name()[:len(hourLayout)], x.cfg.Location)
		if err == nil && hour.Before(first) {
			errs = append(errs, x.root.Remove(e.Name()))
		}
	}
	return errors.Join(errs...)
}

// An exportWriter compresses and takes the sums of both sides. The first error sticks.
type exportWriter struct {
	buf    *bufio.Writer // before compression
	zip    *gzip.Writer
	plain  counted
	zipped counted
	err    error
}

// counted is a hash that counts.
type counted struct {
	hash.Hash
	n int64
}

func (c *counted) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return c.Hash.Write(b)
}

func newExportWriter(f io.Writer) *exportWriter {
	w := &exportWriter{plain: counted{Hash: md5.New()}, zipped: counted{Hash: md5.New()}}
	w.zip = gzip.NewWriter(io.MultiWriter(f, &w.zipped))
	w.buf = bufio.NewWriterSize(io.MultiWriter(w.zip, &w.plain), 64<<10)
	return w
}

func (w *exportWriter) Write(b []byte) (int, error) {
	w.write(b)
	return len(b), w.err
}

func (w *exportWriter) write(b []byte) {
	if w.err == nil {
		_, w.err = w.buf.Write(b)
	}
}

// finish writes what is left and fills in the sums.
func (w *exportWriter) finish(m *exported) error {
	if err := errors.Join(w.err, w.buf.Flush(), w.zip.Close()); err != nil {
		return err
	}
	m.Size, m.GzipSize = w.plain.n, w.zipped.n
	m.MD5, m.GzipMD5 = hex.EncodeToString(w.plain.Sum(nil)), hex.EncodeToString(w.zipped.Sum(nil))
	return nil
}

// sign returns what proves that we gave out the address of a file until expires.
func (x *Exporter) sign(name string, expires int64) string {
	mac := hmac.New(sha256.New, x.cfg.Key)
	_, _ = fmt.Fprintf(mac, "export\n%s\n%d", name, expires)
	return hex.EncodeToString(mac.Sum(nil))
}

// ErrExportRefused says that an address is not ours, or no longer good.
var ErrExportRefused = errors.New("command: the address is not valid, or has expired")

// Open opens a file by what stands in its address. The error is ErrExportRefused, or
// fs.ErrNotExist for a file that was removed since.
func (x *Exporter) Open(name, expires, sign string, now time.Time) (*os.File, error) {
	until, err := strconv.ParseInt(expires, 10, 64)
	if err != nil || now.Unix() > until || !hmac.Equal([]byte(sign), []byte(x.sign(name, until))) {
		return nil, ErrExportRefused
	}
	return x.root.Open(name)
}

func (t *Table) registerExport() {
	register(t, Command{Service: historyService, Name: "get_history", Rate: 10, Doc: "Returns the address of the file with all group messages of an hour."}, t.env.getHistoryFile)
}

type historyFileRequest struct {
	ChatType string `json:"ChatType" wire:"required" doc:"Group. (C2C: there is never a file.)"`
	Hour     string `json:"MsgTime" wire:"required,text" doc:"YYYYMMDDHH in the server's time zone."`
}

type historyFile struct {
	URL      string `json:"URL"`
	Expires  string `json:"ExpireTime" doc:"YYYY-MM-DD HH:MM:SS in the server's time zone: how long the URL is good."`
	Size     int64  `json:"FileSize"`
	MD5      string `json:"FileMD5"`
	GzipSize int64  `json:"GzipSize"`
	GzipMD5  string `json:"GzipMD5"`
}

type historyFileResponse struct {
	Files []historyFile `json:"File"`
}

// ExportPath is where the REST door serves exported files, below the server's root.
const ExportPath = "/download/"

func (e *env) getHistoryFile(_ context.Context, call *Call, r *historyFileRequest) (*historyFileResponse, error) {
	if r.ChatType != "Group" && r.ChatType != "C2C" {
		return nil, group.Errorf(codeHistoryParameter, "ChatType must be Group or C2C")
	}
	location := time.Local
	if e.exporter != nil {
		location = e.exporter.cfg.Location
	}
	hour, err := time.ParseInLocation(hourLayout, r.Hour, location)
	if err != nil || len(r.Hour) != len(hourLayout) { // an hour of one digit would do for Parse
		return nil, group.Errorf(codeHistoryParameter, "MsgTime must be YYYYMMDDHH")
	}
	none := group.Errorf(codeHistoryNone, "there is no file for that hour, or not yet")
	if e.exporter == nil || r.ChatType == "C2C" {
		return nil, none
	}
	m, err := e.exporter.meta(hour)
	if errors.Is(err, fs.ErrNotExist) || err == nil && m.Messages == 0 {
		return nil, none
	}
	if err != nil {
		return nil, err
	}
	name := e.exporter.name(hour) + ".gz"
	until := time.Now().Add(exportLifetime)
	return &historyFileResponse{[]historyFile{{
		URL:     fmt.Sprintf("%s%s%s?expires=%d&sign=%s", call.BaseURL, ExportPath, name, until.Unix(), e.exporter.sign(name, until.Unix())),
		Expires: until.In(location).Format(time.DateTime), Size: m.Size, MD5: m.MD5, GzipSize: m.GzipSize, GzipMD5: m.GzipMD5,
	}}}, nil
}
