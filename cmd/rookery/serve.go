package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/rookery-im/rookery/usersig"
)

func newServe() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server until SIGINT or SIGTERM (SIGHUP: read the limits of messages and the certificate again)",
		Args:  cobra.NoArgs,
	}
	flags := newConfigFlags(
		cmd.Flags(), dataDirFlag,
		keyFlag{"mqtt-addr", "mqtt.addr", "address of MQTT (default 127.0.0.1:1883; port 0 takes a free one)"},
		keyFlag{"ws-addr", "ws.addr", "address of MQTT over WebSocket (default 127.0.0.1:8083)"},
		keyFlag{"http-addr", "http.addr", "address of HTTP (default 127.0.0.1:8080)"},
		keyFlag{"log-level", "log.level", "debug, info, warn or error (default info)"},
	)
	readyFile := cmd.Flags().String("ready-file", "", "file that gets the addresses as JSON when the server is ready")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return serve(cmd, flags, *readyFile) }
	return cmd
}

func serve(cmd *cobra.Command, flags configFlags, readyFile string) (err error) {
	cfg, err := flags.load()
	if err != nil {
		return err
	}
	log := newLogger(cfg.Log, cmd.ErrOrStderr())
	if readyFile != "" {
		if info, err := os.Stat(readyFile); err == nil && !info.Mode().IsRegular() {
			return fmt.Errorf("ready file: %s is there and is no file", readyFile)
		}
		// One that an earlier run left would tell its reader about that run.
		if err := os.Remove(readyFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("ready file: %w", err)
		}
	}
	secret, made, err := appSecret(cfg.App)
	if err != nil {
		return err
	}
	hangups := make(chan os.Signal, 1) // without a reader SIGHUP would end the process
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	n, err := newNode(cmd.Context(), cfg, usersig.App{ID: cfg.App.SDKAppID, Secret: secret.Reveal()}, log)
	if err != nil {
		return err
	}
	n.work("reload", func(ctx context.Context) error { return n.reload(ctx, hangups, flags.load) })
	if made != "" { // what fails to start says why, and nothing else
		log.Info("secret made", "file", made)
	}
	return n.run(cmd.Context(), func(context.Context) error {
		if readyFile != "" {
			if err := writeReadyFile(readyFile, n.addrs); err != nil {
				return err
			}
		}
		g := greeting{cfg: cfg, addrs: n.addrs, program: program(), configFile: flags.path()}
		return g.print(cmd.OutOrStdout())
	})
}

// program is how this program can be called again.
func program() string {
	if path, err := os.Executable(); err == nil {
		return path
	}
	return "rookery"
}
