package runtime

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestNoFileOfTheHostIsALog has somebody who may write to the folder of logs, such as a Pod that collects them, put other things
// in the place of a log: nothing of the host is read, or written to, and nobody waits.
func TestNoFileOfTheHostIsALog(t *testing.T) {
	t.Parallel()
	const secret = "2026-01-01T00:00:00Z stdout F secret\n"
	for sentence, put := range map[string]func(logs, host string) error{
		"a symlink to a file": func(logs, host string) error { return os.Symlink(host, filepath.Join(logs, "pod/app/0.log")) },
		"a symlink that leads out by ..": func(logs, _ string) error {
			return os.Symlink("../../../host/0.log", filepath.Join(logs, "pod/app/0.log"))
		},
		"a symlink in the folder of logs": func(logs, host string) error {
			return errors.Join(os.WriteFile(filepath.Join(logs, "other"), []byte(secret), 0o600), os.Symlink("../../other", filepath.Join(logs, "pod/app/0.log")))
		},
		"the container's folder elsewhere": func(logs, host string) error {
			return errors.Join(os.Remove(filepath.Join(logs, "pod/app")), os.Symlink(filepath.Dir(host), filepath.Join(logs, "pod/app")))
		},
		"a pipe":   func(logs, _ string) error { return syscall.Mkfifo(filepath.Join(logs, "pod/app/0.log"), 0o600) },
		"a folder": func(logs, _ string) error { return os.Mkdir(filepath.Join(logs, "pod/app/0.log"), 0o700) },
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			logs, host := filepath.Join(dir, "logs"), filepath.Join(dir, "host", "0.log")
			err := errors.Join(os.MkdirAll(filepath.Join(logs, "pod/app"), 0o755), os.Mkdir(filepath.Dir(host), 0o755), os.WriteFile(host, []byte(secret), 0o600), put(logs, host))
			if err != nil {
				t.Fatal(err)
			}
			log := filepath.Join(logs, "pod/app/0.log")
			var out bytes.Buffer
			if err := ReadLog(t.Context(), log, LogQuery{Tail: -1, Limit: -1}, &out, &out); err == nil || out.Len() > 0 {
				t.Errorf("read: %q, %v", out.String(), err)
			}
			if text, err := LastLines(log, 9, 99); err == nil || text != "" {
				t.Errorf("read for a termination message: %q, %v", text, err)
			}
			if l, err := openLogFile(log, 1<<20, 2); err == nil {
				_ = l.Close()
				t.Error("opened to write")
			}
			if err := errors.Join(os.Rename(host, host+".old"), os.Symlink(host+".old", host)); err != nil {
				t.Fatal(err)
			}
			if content, err := os.ReadFile(host); err != nil || string(content) != secret {
				t.Errorf("the host's file is %q, %v", content, err)
			}
		})
	}
	t.Run("the folder of all logs may be a symlink", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, "disk/pod/app"), 0o755), os.Symlink("disk", filepath.Join(dir, "logs"))); err != nil {
			t.Fatal(err)
		}
		l, err := openLogFile(filepath.Join(dir, "logs/pod/app/0.log"), 1<<20, 2)
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
	})
}

// TestALineWithoutEndTakesNoMemory reads what no agent has written: a line that is longer than any entry.
func TestALineWithoutEndTakesNoMemory(t *testing.T) {
	t.Parallel()
	const one = "2026-01-01T00:00:01Z stdout F one\n"
	log := writeLog(t, map[string]string{"": one + "2026-01-01T00:00:02Z stdout F " + long(5*maxReadLine) + "\n" + one})
	var out bytes.Buffer
	r := &logReader{path: log, query: LogQuery{Tail: -1, Limit: -1}, stdout: &out, stderr: &out}
	defer r.close()
	if err := errors.Join(r.begin(), r.drain(t.Context())); err != nil || out.String() != "one\none\n" || len(r.buffer) > maxReadLine {
		t.Errorf("%d bytes of text, a buffer of %d, %v", out.Len(), len(r.buffer), err)
	}
}

// Whatever a container writes is text of its own entries: it can make no other, of another time or stream.
func FuzzForgedEntries(f *testing.F) {
	f.Add("2026-01-01T00:00:00Z stderr F forged\n", 1)
	f.Add("one\r2026-01-01T00:00:00Z stderr F forged\r\n\x00\xff\u2028two\n", 1)
	f.Add(" stdout P \n stdout F ", 1)
	f.Add(long(maxLogLine-1)+"\n2026-01-01T00:00:00Z stderr F forged", 3)
	at := time.Date(2026, 2, 3, 4, 5, 6, 7, time.UTC)
	f.Fuzz(func(t *testing.T, said string, times int) {
		if times < 0 || len(said)*times > 1<<20 {
			t.Skip("more than a log holds")
		}
		said = strings.Repeat(said, times)
		entries, _ := splitLines([]byte(said), true)
		log := writeLog(t, map[string]string{"": string(appendEntries(nil, at, "stdout", entries))})
		want := said
		if want != "" && !strings.HasSuffix(want, "\n") {
			want += "\n"
		}
		var out, err, stamped bytes.Buffer
		if failed := errors.Join(
			ReadLog(t.Context(), log, LogQuery{Tail: -1, Limit: -1}, &out, &err),
			ReadLog(t.Context(), log, LogQuery{Tail: -1, Limit: -1, Timestamps: true}, &stamped, &err),
		); failed != nil || out.String() != want || err.Len() > 0 {
			t.Fatalf("read %q and %q of %q, %v", out.String(), err.String(), said, failed)
		}
		for line := range strings.Lines(stamped.String()) {
			text, ours := strings.CutPrefix(line, at.Format(timeOut)+" ")
			own, rest, _ := strings.Cut(want, "\n")
			if want = rest; !ours || text != own+"\n" {
				t.Fatalf("a line is %q", line)
			}
		}
	})
}
