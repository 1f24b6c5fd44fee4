package main

import (
	"io"
	"log/slog"

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
