package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rookery-im/rookery/configs"
)

// secretFile is where the data folder keeps a secret that was made, not configured.
const secretFile = "secret"

// secretBytes is the entropy of a secret; its text is twice as long.
const secretBytes = 32

// appSecret returns the configured secret or, without one, the data folder's, which it makes
// at the first call: then made is the path of the file.
func appSecret(app configs.App) (secret configs.Secret, made string, err error) {
	if app.Secret != "" {
		return app.Secret, "", nil
	}
	path := filepath.Join(app.DataDir, secretFile)
	secret, err = readSecret(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return secret, "", err
	}
	if err := makeSecret(path); err != nil {
		return "", "", fmt.Errorf("make a secret: %w", err)
	}
	secret, err = readSecret(path) // it may be another process's, which was first
	return secret, path, err
}

// serverSecret is appSecret for what calls a running server: where that server has none, one
// that was made would open nothing.
func serverSecret(app configs.App) (configs.Secret, error) {
	if app.Secret != "" {
		return app.Secret, nil
	}
	secret, err := readSecret(filepath.Join(app.DataDir, secretFile))
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("app.secret is not set, and there is none in %s: is app.data_dir that of the server?", app.DataDir)
	}
	return secret, err
}

func readSecret(path string) (configs.Secret, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	text = bytes.TrimSpace(text)
	if raw, err := hex.DecodeString(string(text)); err != nil || len(raw) != secretBytes {
		return "", fmt.Errorf("%s does not hold %d hexadecimal digits: restore it, or delete it to have a new secret made, which ends every UserSig",
			path, 2*secretBytes)
	}
	return configs.Secret(text), nil
}

// makeSecret writes a new secret to path unless there is one. The file appears whole, so that
// neither a crash nor a second process meets half a secret.
func makeSecret(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	raw := make([]byte, secretBytes)
	_, _ = rand.Read(raw) // it never fails: the runtime ends the process instead
	fresh, err := writeTemp(dir, []byte(hex.EncodeToString(raw)+"\n"))
	if err != nil {
		return err
	}
	err = os.Link(fresh, path) // unlike a rename it takes nobody's place
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	return errors.Join(err, os.Remove(fresh), syncDir(dir))
}

// writeTemp writes data to a new file in dir that only its owner may read, and onto disk.
func writeTemp(dir string, data []byte) (path string, err error) {
	f, err := os.CreateTemp(dir, ".tmp-*") // mode 0600
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
