package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

// startMochi starts an unmodified mochi-mqtt server that lets everybody in, with its default capabilities. It is the
// publish path that Rookery's own is compared with.
func startMochi(ctx context.Context, address string) (*mqtt.Server, net.Addr, error) {
	server := mqtt.New(&mqtt.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := server.AddHook(new(auth.AllowHook), nil); err != nil {
		return nil, nil, err
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, nil, err
	}
	if err := server.AddListener(listeners.NewNet("bench", ln)); err != nil {
		_ = ln.Close()
		return nil, nil, err
	}
	if err := server.Serve(); err != nil {
		return nil, nil, err
	}
	return server, ln.Addr(), nil
}

// ServeMochi runs such a server until ctx ends. When it listens it writes its address to readyFile, in the form that
// rookery serve uses, unless the name is empty.
func ServeMochi(ctx context.Context, address, readyFile string) error {
	if _, err := raiseFileLimit(); err != nil {
		return err
	}
	server, at, err := startMochi(ctx, address)
	if err != nil {
		return err
	}
	if readyFile != "" {
		text, err := json.Marshal(map[string]string{"mqtt": at.String()})
		if err != nil {
			return err
		}
		// Renamed into place, so that whoever waits for the file never reads half of it.
		if err := os.WriteFile(readyFile+".new", text, 0o600); err != nil {
			return err
		}
		if err := os.Rename(readyFile+".new", readyFile); err != nil {
			return err
		}
	}
	<-ctx.Done()
	if err := server.Close(); err != nil {
		return fmt.Errorf("stopping mochi: %w", err)
	}
	return nil
}
