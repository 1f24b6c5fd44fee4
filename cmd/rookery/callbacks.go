package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/rookery-im/rookery/broker"
	"github.com/rookery-im/rookery/command"
	"github.com/rookery-im/rookery/configs"
	"github.com/rookery-im/rookery/hooks/callback"
)

// openCallbacks lets the app's own server take part, if there is one.
func (n *node) openCallbacks(ctx context.Context, _ *tls.Config) error {
	if n.cfg.Callbacks.URL == "" {
		return nil
	}
	cfg, err := callbackConfig(n.cfg)
	if err != nil {
		return err
	}
	client, err := callback.New(cfg, n.log)
	if err != nil {
		return fmt.Errorf("callbacks.url: %w", err)
	}
	n.onClose("callbacks", func(context.Context) error { client.Close(); return nil })
	outbox, err := callback.OpenOutbox(ctx, client, n.store)
	if err != nil {
		return err
	}
	n.metrics.MustRegister(client.Metrics())
	n.callbacks, n.outbox = client, outbox
	n.pipeline.UseBeforeSend(client)
	n.pipeline.UseOutbox(outbox)
	n.work("callbacks", outbox.Run)
	return nil
}

// stateChanged notes that a device came or went, and tells the app.
func (n *node) stateChanged(s broker.StateChange) {
	switch {
	case s.Action == broker.StateLogin:
		n.stats.Login(s.Account, s.Remaining == 1, s.Created)
	case s.Remaining == 0:
		n.stats.Logout()
	}
	if s.Action == broker.StateDisconnect {
		n.absent.Lost(s.Account, s.Device, s.Platform)
	} else {
		n.absent.Seen(s.Account, s.Device, s.Platform)
	}
	n.forgetPush(s.Account, s.LoggedOut)
	if n.outbox == nil {
		return
	}
	n.outbox.StateChanged(callback.StateChange{
		Account: s.Account, Action: string(s.Action), Reason: s.Reason, Platform: s.Platform, IP: s.IP, At: s.At, Kicked: s.Kicked,
	})
}

// stuck shows the commands what the outbox could not deliver.
type stuck struct{ *callback.Outbox }

// Waiting implements command.StuckCallbacks.
func (s stuck) Waiting(ctx context.Context, limit int) ([]command.StuckCallback, error) {
	return shownCallbacks(s.Outbox.Waiting(ctx, limit))
}

// Dead implements command.StuckCallbacks.
func (s stuck) Dead(ctx context.Context, limit int) ([]command.StuckCallback, error) {
	return shownCallbacks(s.Outbox.Dead(ctx, limit))
}

// Retry implements command.StuckCallbacks.
func (s stuck) Retry(ctx context.Context, number string) (bool, error) {
	return wasDead(s.Outbox.Retry(ctx, number))
}

// Drop implements command.StuckCallbacks.
func (s stuck) Drop(ctx context.Context, number string) (bool, error) {
	return wasDead(s.Outbox.Drop(ctx, number))
}

func wasDead(err error) (bool, error) {
	if errors.Is(err, callback.ErrNotDead) {
		return false, nil
	}
	return err == nil, err
}

func shownCallbacks(items []callback.Item, err error) ([]command.StuckCallback, error) {
	out := make([]command.StuckCallback, len(items))
	for i, it := range items {
		out[i] = command.StuckCallback{Number: it.Number, Queue: it.Queue, Command: it.Command, Time: it.At.Unix(), Reason: it.Why}
	}
	return out, err
}

func callbackConfig(cfg *configs.Config) (callback.Config, error) {
	c := &cfg.Callbacks
	t, err := callbackTLS(c)
	return callback.Config{
		URL:                 c.URL,
		SDKAppID:            cfg.App.SDKAppID,
		Commands:            c.Commands,
		Timeout:             c.Timeout,
		FailPolicy:          callback.Policy(c.FailPolicy),
		Token:               c.Token.Reveal(),
		TLS:                 t,
		AnswerBytes:         int64(c.AnswerSize),
		Concurrency:         c.Concurrency,
		ConcurrencyPerGroup: c.ConcurrencyPerGroup,
		AfterConcurrency:    c.ConcurrencyAfter,
		Overflow:            callback.Policy(c.Overflow),
		BreakerFailures:     c.BreakerFailures,
		BreakerPause:        c.BreakerPause,
		Retry:               c.Retry,
		RetryPauseMin:       c.RetryPauseMin,
		RetryPauseMax:       c.RetryPauseMax,
		RetryAge:            c.RetryAge,
		Entries:             int64(c.OutboxEntries),
		Bytes:               int64(c.OutboxBytes),
		DeadEntries:         int64(c.DeadEntries),
	}, err
}

// callbackTLS returns nil if nothing differs from the system's defaults.
func callbackTLS(c *configs.Callbacks) (*tls.Config, error) {
	if c.CertFile == "" && c.CAFile == "" {
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("callbacks.cert_file, callbacks.key_file: %w", err)
		}
		t.Certificates = []tls.Certificate{cert}
	}
	if c.CAFile != "" {
		text, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("callbacks.ca_file: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("callbacks.ca_file: %s holds no certificate", c.CAFile)
		}
	}
	return t, nil
}
