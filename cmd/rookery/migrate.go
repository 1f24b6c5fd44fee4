package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/rookery-im/rookery/cmd/rookery/migrate"
	"github.com/rookery-im/rookery/storage"
	"github.com/rookery-im/rookery/storage/mongo"
	"github.com/rookery-im/rookery/storage/pebble"
)

func newMigrate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate --from STORE --to STORE",
		Short: "Copy everything from one store to another, and compare them",
		Long: `Copy everything from one store to another, and compare them.

A store is pebble://DIR (the folder "store" in the data folder) or mongodb://… as in
storage.mongo.uri, with the database's name as its path (default rookery). No server may run
on either. Stopped in the middle, the same command goes on where it was.`,
		Args: cobra.NoArgs,
	}
	from := cmd.Flags().String("from", "", "store to copy from; it is not changed")
	to := cmd.Flags().String("to", "", "store to copy to; it should be empty, or have been copied to before")
	verifyOnly := cmd.Flags().Bool("verify-only", false, "only compare the two")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if *from == *to {
			return errors.New("--from and --to: both are needed, and not the same")
		}
		source, err := openLocation(cmd.Context(), "--from", *from, true)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, source.Close()) }()
		if empty, err := migrate.Empty(cmd.Context(), source); err != nil || empty {
			return cmp.Or(err, errors.New("--from: there is nothing in that store"))
		}
		target, err := openLocation(cmd.Context(), "--to", *to, *verifyOnly)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, target.Close()) }()
		if !*verifyOnly {
			counts, err := withBar(cmd.ErrOrStderr(), "copying", func(p migrate.Progress) (migrate.Counts, error) {
				return migrate.Copy(cmd.Context(), source, target, p)
			})
			if err != nil {
				return fmt.Errorf("stopped after %v; the same command goes on: %w", counts, err)
			}
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), "copied", counts); err != nil {
				return err
			}
		}
		counts, err := withBar(cmd.ErrOrStderr(), "comparing", func(p migrate.Progress) (migrate.Counts, error) {
			return migrate.Verify(cmd.Context(), source, target, p)
		})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), "equal:", counts)
		return err
	}
	return cmd
}

// openLocation opens the store that a flag names; one that must exist is not made. An error never
// repeats a URI: it holds a password.
func openLocation(ctx context.Context, flag, location string, mustExist bool) (storage.Enumerator, error) {
	if dir, ok := strings.CutPrefix(location, "pebble://"); ok {
		if exists, err := pebble.Exists(dir); mustExist && (err != nil || !exists) {
			return nil, fmt.Errorf("%s: %w", flag, cmp.Or(err, fmt.Errorf("there is no store in %s; it is the folder \"store\" in the data folder", dir)))
		}
		s, err := pebble.Open(pebble.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
		return s, nil
	}
	if !strings.HasPrefix(location, "mongodb://") && !strings.HasPrefix(location, "mongodb+srv://") {
		return nil, fmt.Errorf("%s: neither pebble://DIR nor mongodb://…", flag)
	}
	database := "rookery"
	if u, err := url.Parse(location); err == nil && len(u.Path) > 1 {
		database = u.Path[1:]
	}
	s, err := mongo.Open(ctx, mongo.Config{URI: location, Database: database})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	return s, nil
}

// A bar shows progress on a terminal, and elsewhere nothing.
type bar struct {
	*progressbar.ProgressBar
	w io.Writer
}

// newBar returns a bar of total steps; -1: Total will say how many.
func newBar(w io.Writer, total int64, what string, more ...progressbar.Option) bar {
	if file, ok := w.(*os.File); !ok || !isatty.IsTerminal(file.Fd()) {
		w = io.Discard
	}
	return bar{progressbar.NewOptions64(total, append([]progressbar.Option{
		progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(what),
		progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(true),
	}, more...)...), w}
}

// end leaves the bar in a line of its own: full if all is done, else as it is.
func (b bar) end(done bool) {
	end := b.Exit
	if done {
		end = b.Finish
	}
	_ = end() // the terminal's errors are no reason to fail
	_, _ = fmt.Fprintln(b.w)
}

func (b bar) Total(n int) { b.ChangeMax(n) }
func (b bar) Step()       { _ = b.Add(1) } // an error is the terminal's, and no reason to stop

func withBar(w io.Writer, what string, run func(migrate.Progress) (migrate.Counts, error)) (migrate.Counts, error) {
	b := newBar(w, -1, what, progressbar.OptionShowElapsedTimeOnFinish(),
		progressbar.OptionSetSpinnerChangeInterval(0)) // its goroutine would race with ChangeMax
	counts, err := run(b)
	b.end(err == nil)
	return counts, err
}
