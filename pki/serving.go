package pki

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Serving is what the process that serves the API needs of the node's certificates, as PEM. It can make none of them.
type Serving struct {
	Certificate, Key []byte
	ClientCA         []byte // whose certificates clients show
	TokenKey         []byte // the public key of service accounts' tokens
}

// Hand writes the files tls.crt, tls.key, client-ca.crt and sa.pub for a group to read, and nobody but root to change. Each
// is replaced in one step, the key before its certificate: who reads a pair that does not fit reads it again.
func (s *Serving) Hand(dir string, group int) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if err := errors.Join(os.Chown(dir, 0, group), os.Chmod(dir, 0o750)); err != nil {
		return fmt.Errorf("hand over directory: %w", err)
	}
	for _, f := range []struct {
		name    string
		content []byte
	}{{"tls.key", s.Key}, {"tls.crt", s.Certificate}, {"client-ca.crt", s.ClientCA}, {"sa.pub", s.TokenKey}} {
		if err := hand(filepath.Join(dir, f.name), f.content, group); err != nil {
			return fmt.Errorf("hand over %s: %w", f.name, err)
		}
	}
	return nil
}

// hand replaces a file, unless it holds the content already. It belongs to its group before there is something in it to read.
func hand(file string, content []byte, group int) error {
	if old, err := os.ReadFile(file); err == nil && bytes.Equal(old, content) {
		return errors.Join(os.Chown(file, 0, group), os.Chmod(file, 0o640))
	}
	tmp := file + ".tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.WriteFile(tmp, nil, 0o600); err != nil {
		return err
	}
	if err := errors.Join(os.Chown(tmp, 0, group), os.Chmod(tmp, 0o640), os.WriteFile(tmp, content, 0)); err != nil {
		return err
	}
	return os.Rename(tmp, file)
}
