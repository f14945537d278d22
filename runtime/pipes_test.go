package runtime

import (
	v1 "k8s.io/api/core/v1"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// inPlaceOf puts something else where a pipe belongs.
var inPlaceOf = map[string]func(pipe, victim string) error{
	"a symlink to a file": func(pipe, victim string) error { return os.Symlink(victim, pipe) },
	"a symlink to a pipe": func(pipe, victim string) error {
		_ = syscall.Mkfifo(victim+".pipe", 0o600)
		return os.Symlink(victim+".pipe", pipe)
	},
	"a symlink to nowhere":  func(pipe, victim string) error { return os.Symlink(victim+".none", pipe) },
	"a file":                func(pipe, _ string) error { return os.WriteFile(pipe, nil, 0o600) },
	"a folder with a file":  func(pipe, _ string) error { _ = os.Mkdir(pipe, 0o700); return os.WriteFile(pipe+"/file", nil, 0o600) },
	"a link to the victim":  func(pipe, victim string) error { return os.Link(victim, pipe) },
	"nothing at all (gone)": func(string, string) error { return nil },
}

func TestOnlyAPipeIsTakenForOne(t *testing.T) {
	t.Parallel()
	for sentence, put := range inPlaceOf {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			p := newPiped(t)
			victim := filepath.Join(t.TempDir(), "victim")
			if err := os.WriteFile(victim, []byte("host's"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(p.stdout); err != nil {
				t.Fatal(err)
			}
			if err := put(p.stdout, victim); err != nil {
				t.Fatal(err)
			}
			if l, err := p.runtime.OpenLog(p.stdout, p.stderr, p.file); err == nil {
				t.Errorf("it is read as a log: %v", l.Close())
			}
			if err := checkPipes(p.stdout, p.stderr); err == nil {
				t.Error("a shim is let write to it")
			}
			if err := MakePipes(p.dir, AllPipes(p.dir, &v1.Container{Name: "app"})); err != nil {
				t.Fatal(err)
			}
			if err := checkPipes(p.stdout, p.stderr); err != nil {
				t.Errorf("it is not replaced: %v", err)
			}
			if err := p.open().Close(); err != nil {
				t.Error(err)
			}
			if content, err := os.ReadFile(victim); err != nil || string(content) != "host's" {
				t.Errorf("the host's file holds %q: %v", content, err)
			}
		})
	}
}

func TestPipesThatAreThereKeepTheirOutput(t *testing.T) {
	t.Parallel()
	p := newPiped(t)
	p.put(p.writer(p.stdout), "kept")
	if err := MakePipes(p.dir, AllPipes(p.dir, &v1.Container{Name: "app"})); err != nil {
		t.Fatal(err)
	}
	if n := p.waiting(p.stdout); n != len("kept") {
		t.Errorf("%d bytes are left", n)
	}
}
