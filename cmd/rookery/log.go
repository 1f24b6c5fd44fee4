package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/rookery-im/rookery/configs"
)

// newLogger returns the process's logger. Secrets hide themselves: their types say what a log
// shows of them.
func newLogger(cfg configs.Log, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		level = slog.LevelInfo // the configuration allows only names that slog knows
	}
	options := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// openAudit returns the log of the changes that commands make.
func (n *node) openAudit() (*slog.Logger, error) {
	switch to := n.cfg.Log.Audit; to {
	case "log":
		return n.log.With("log", "audit"), nil
	case "none":
		return slog.New(slog.DiscardHandler), nil
	case "stdout":
		return slog.New(slog.NewJSONHandler(os.Stdout, nil)), nil
	default:
		f, err := os.OpenFile(to, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, fmt.Errorf("log.audit: %w", err)
		}
		n.onClose("audit log", func(context.Context) error { return errors.Join(f.Sync(), f.Close()) })
		return slog.New(slog.NewJSONHandler(f, nil)), nil
	}
}
