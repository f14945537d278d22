package runtime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A pull that failed may succeed as soon as one of these files is another: each is noticed, once, and nothing else is.
func TestChangedRegistryConfigIsNoticed(t *testing.T) {
	home, dockerConfig, hosts := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "certs.d")
	t.Setenv("HOME", home)
	t.Setenv("DOCKER_CONFIG", dockerConfig)
	t.Setenv("REGISTRY_AUTH_FILE", filepath.Join(home, "auth.json"))
	t.Setenv("XDG_RUNTIME_DIR", "")
	write := func(path ...string) error {
		file := filepath.Join(path...)
		return errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(time.Now().String()), 0o600))
	}
	often := pace{settle: 20 * time.Millisecond, rescan: 200 * time.Millisecond}
	ctx, cancel := context.WithCancel(t.Context())
	changes, ended := make(chan struct{}, 100), make(chan struct{})
	go func() {
		defer close(ended)
		watchFiles(ctx, often, func() map[string]fileID { return registryFiles(hosts) }, func() { changes <- struct{}{} })
	}()
	defer func() { cancel(); <-ended }()
	time.Sleep(5 * often.settle)
	for _, step := range []struct {
		sentence string
		do       func() error
		noticed  bool
	}{
		{"credentials in a folder that was not there", func() error { return write(home, ".docker", "config.json") }, true},
		{"other credentials", func() error { return write(home, ".docker", "config.json") }, true},
		{"credentials where $DOCKER_CONFIG says", func() error { return write(dockerConfig, "config.json") }, true},
		{"credentials where $REGISTRY_AUTH_FILE says", func() error { return write(home, "auth.json") }, true},
		{"a registry's mirror", func() error { return write(hosts, "docker.io", "hosts.toml") }, true},
		{"another mirror", func() error { return write(hosts, "docker.io", "hosts.toml") }, true},
		{"a certificate", func() error { return write(hosts, "quay.io", "ca.crt") }, true},
		{"a mirror that goes", func() error { return os.RemoveAll(filepath.Join(hosts, "docker.io")) }, true},
		{"a file that has nothing to do with it", func() error { return write(home, "notes") }, false},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		patience := 10 * time.Second
		if !step.noticed {
			patience = 2 * often.rescan
		}
		select {
		case <-changes:
			if !step.noticed {
				t.Errorf("%s is taken for a change", step.sentence)
			}
		case <-time.After(patience):
			if step.noticed {
				t.Errorf("%s is not noticed", step.sentence)
			}
		}
		time.Sleep(5 * often.settle) // what is still seen of this one is none of the next
		for len(changes) > 0 {
			<-changes
		}
	}
}
