package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"

	"github.com/rookery-im/rookery/configs"
	"github.com/rookery-im/rookery/storage/pebble"
)

// newDoctor is the tool that says why a server would not start or would soon be in trouble.
func newDoctor() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check configuration, data folder, store, certificate and addresses, and say what is wrong",
		Long: "Check what a server needs, one line each: ok, warn, or FAIL, which ends with exit code 1. Beside a running server\n" +
			"its store and its addresses are in use, which is said and is no failure: /readyz tells more about it.",
		Args: cobra.NoArgs,
	}
	flags := newConfigFlags(cmd.Flags(), dataDirFlag)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := flags.load()
		if err != nil {
			return err
		}
		d := &doctor{cfg: cfg, out: cmd.OutOrStdout()}
		d.say(fine, "configuration", cmp.Or(flags.path(), "no file")+", environment and flags are valid")
		for _, check := range []func(context.Context){d.dataFolder, d.secret, d.space, d.store, d.certificate, d.addresses, d.descriptors} {
			check(cmd.Context())
		}
		if d.failures > 0 {
			return fmt.Errorf("%d of the checks failed", d.failures)
		}
		return nil
	}
	return cmd
}

// A finding is how a check ended.
type finding string

const (
	fine    finding = "ok"
	suspect finding = "warn"
	failed  finding = "FAIL"
)

type doctor struct {
	cfg      *configs.Config
	out      io.Writer
	failures int
	running  bool // a server has the store open
}

// say writes what a check has found.
func (d *doctor) say(f finding, what, text string) {
	if f == failed {
		d.failures++
	}
	_, _ = fmt.Fprintf(d.out, "%-4s  %-13s  %s\n", f, what, oneLine(errors.New(text))) // who does not read it need not
}

// dataFolder looks whether the server can write there, or make the folder.
func (d *doctor) dataFolder(context.Context) {
	const what = "data folder"
	dir, err := filepath.Abs(d.cfg.App.DataDir)
	if err != nil {
		d.say(failed, what, err.Error())
		return
	}
	at, info, err := nearest(dir)
	if err != nil {
		d.say(failed, what, err.Error())
		return
	}
	if !info.IsDir() {
		d.say(failed, what, at+" is no folder")
		return
	}
	f, err := os.CreateTemp(at, ".doctor-*")
	if err == nil {
		err = errors.Join(f.Close(), os.Remove(f.Name()))
	}
	if err != nil {
		d.say(failed, what, err.Error())
		return
	}
	if at == dir {
		d.say(fine, what, dir+" can be written to")
	} else {
		d.say(fine, what, dir+" does not exist yet and can be made")
	}
}

// nearest returns path or, if it does not exist, the first above it that does.
func nearest(path string) (at string, info fs.FileInfo, err error) {
	for at = path; ; at = filepath.Dir(at) {
		info, err = os.Stat(at)
		if !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at) {
			return at, info, err
		}
	}
}

func (d *doctor) secret(context.Context) {
	const what = "secret"
	if d.cfg.App.Secret != "" {
		d.say(fine, what, "app.secret is set")
		return
	}
	path := filepath.Join(d.cfg.App.DataDir, secretFile)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		d.say(fine, what, "none yet: the first start makes one")
		return
	}
	if err == nil {
		_, err = readSecret(path)
	}
	switch {
	case err != nil:
		d.say(failed, what, err.Error())
	case info.Mode().Perm()&0o077 != 0:
		d.say(suspect, what, fmt.Sprintf("%s may be read by others (mode %04o): chmod 600", path, info.Mode().Perm()))
	default:
		d.say(fine, what, path)
	}
}

// space compares what is free with what the store keeps free.
func (d *doctor) space(context.Context) {
	const what = "free space"
	if d.cfg.Storage.Driver == "mongo" {
		return
	}
	dir, _, err := nearest(d.cfg.App.DataDir)
	if err != nil {
		return // dataFolder has said it
	}
	usage, err := vfs.Default.GetDiskUsage(dir)
	if err != nil {
		d.say(failed, what, err.Error())
		return
	}
	free, reserve := usage.AvailBytes, uint64(d.cfg.Storage.FreeSpaceReserve)
	text := fmt.Sprintf("%d MiB, storage.free_space_reserve is %d MiB", free>>20, reserve>>20)
	switch {
	case free < reserve:
		d.say(failed, what, text+": nothing will be accepted")
	case free < 2*reserve:
		d.say(suspect, what, text)
	default:
		d.say(fine, what, text)
	}
}

// store opens the store as a server does, but for an embedded one that was never made.
func (d *doctor) store(ctx context.Context) {
	const what = "store"
	if d.cfg.Storage.Driver != "mongo" {
		if _, err := os.Stat(storeDir(d.cfg)); errors.Is(err, fs.ErrNotExist) {
			d.say(fine, what, "none yet: the first start makes one")
			return
		}
	}
	store, err := openStore(ctx, d.cfg, slog.New(slog.DiscardHandler))
	if errors.Is(err, pebble.ErrInUse) {
		d.running = true
		d.say(suspect, what, "in use by another process: a server runs on this data folder")
		return
	}
	if err == nil {
		err = errors.Join(store.Health(ctx), store.Close())
	}
	if err != nil {
		d.say(failed, what, err.Error())
		return
	}
	d.say(fine, what, d.cfg.Storage.Driver+" opens and takes writes")
}

// certificateWarning is how long before the end of a certificate it is time to replace it.
const certificateWarning = 14 * 24 * time.Hour

func (d *doctor) certificate(context.Context) {
	const what = "certificate"
	cert, err := loadCertificate(d.cfg.TLS)
	if err != nil {
		d.say(failed, what, err.Error())
		return
	}
	if cert == nil {
		return
	}
	f, text := judgeCertificate(cert.Certificates[0], time.Now())
	d.say(f, what, d.cfg.TLS.CertFile+": "+text)
}

func judgeCertificate(cert tls.Certificate, now time.Time) (finding, string) {
	leaf := cert.Leaf
	switch until := leaf.NotAfter.UTC().Format(time.RFC3339); {
	case now.Before(leaf.NotBefore):
		return failed, "not valid before " + leaf.NotBefore.UTC().Format(time.RFC3339)
	case now.After(leaf.NotAfter):
		return failed, "has expired at " + until
	case leaf.NotAfter.Sub(now) < certificateWarning:
		return suspect, "expires soon, at " + until
	default:
		return fine, "valid until " + until
	}
}

// addresses looks whether the listeners' addresses can be had.
func (d *doctor) addresses(ctx context.Context) {
	for _, l := range []struct{ key, addr string }{
		{"mqtt.addr", d.cfg.MQTT.Addr},
		{"mqtt.tls_addr", d.cfg.MQTT.TLSAddr},
		{"ws.addr", d.cfg.WS.Addr},
		{"ws.tls_addr", d.cfg.WS.TLSAddr},
		{"http.addr", d.cfg.HTTP.Addr},
		{"http.tls_addr", d.cfg.HTTP.TLSAddr},
	} {
		if l.addr == "" {
			continue
		}
		var lc net.ListenConfig
		ln, err := lc.Listen(ctx, "tcp", l.addr)
		switch {
		case err == nil:
			_ = ln.Close() // nobody has connected
			d.say(fine, l.key, l.addr+" is free")
		case d.running && errors.Is(err, syscall.EADDRINUSE):
			d.say(suspect, l.key, l.addr+" is in use, by the running server as it seems")
		default:
			d.say(failed, l.key, listenError(l.key, l.addr, err).Error())
		}
	}
}

// spareDescriptors is what a server needs beside its connections: files of the store, listeners, calls.
const spareDescriptors = 2000

func (d *doctor) descriptors(context.Context) {
	limit, known := descriptorLimit()
	if !known {
		return
	}
	need := uint64(d.cfg.Limits.Connections) + uint64(d.cfg.HTTP.Connections) + spareDescriptors
	text := fmt.Sprintf("%d may be open (ulimit -Hn); limits.connections, http.connections and the store may want %d", limit, need)
	if limit < need {
		d.say(suspect, "descriptors", text)
		return
	}
	d.say(fine, "descriptors", text)
}
