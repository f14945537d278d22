package runtime

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// noise fills both pipes of a container as fast as they are emptied, until the test ends.
func (p *piped) noise() {
	p.Helper()
	for _, pipe := range []string{p.stdout, p.stderr} {
		out := p.writer(pipe)
		yes := exec.Command("yes", "a line of a program that says the same over and over")
		yes.Stdout = out
		if err := yes.Start(); err != nil {
			p.Fatal(err)
		}
		p.Cleanup(func() { _ = yes.Process.Kill(); _ = yes.Wait() })
	}
}

// TestNoiseOfOthersDelaysNoLine has two containers that write all they can on both streams, and a third whose few lines are
// to be in its log at once all the same. Each line tells when it was written.
func TestNoiseOfOthersDelaysNoLine(t *testing.T) {
	const lines, pause = 20, 100 * time.Millisecond
	quiet := newPiped(t)
	for range 2 {
		noisy := newPiped(t)
		noisy.runtime = quiet.runtime // they share its buffers
		noisy.noise()
		l := noisy.open()
		t.Cleanup(func() {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	l := quiet.open()
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	out := quiet.writer(quiet.stdout)
	for range lines {
		time.Sleep(pause)
		quiet.put(out, fmt.Sprintln(time.Now().Format(time.RFC3339Nano)))
	}
	var logged []string
	eventually(t, "all of them are logged", func() bool {
		content, err := os.ReadFile(quiet.file)
		logged = strings.Split(strings.TrimSpace(string(content)), "\n")
		return err == nil && len(logged) == lines
	})
	var worst time.Duration
	for _, line := range logged {
		fields := strings.Fields(line)
		seen, err := time.Parse(time.RFC3339Nano, fields[0])
		if err != nil {
			t.Fatal(err)
		}
		written, err := time.Parse(time.RFC3339Nano, fields[3])
		if err != nil {
			t.Fatal(err)
		}
		worst = max(worst, seen.Sub(written))
	}
	t.Logf("%v at worst", worst)
	if worst > time.Second {
		t.Errorf("a line was logged %v after it was written", worst)
	}
}

// An agent ends, and leaves the pipes to the next one, whether or not a container pauses.
func TestNoiseDoesNotKeepALogOpen(t *testing.T) {
	p := newPiped(t)
	p.noise()
	for range 5 {
		begin := time.Now()
		if err := p.open().Close(); err != nil {
			t.Fatal(err)
		}
		l := p.open()
		eventually(t, "it is carried", func() bool { info, err := os.Stat(p.file); return err == nil && info.Size() > 1<<20 })
		if err := l.Finish(); err != nil { // however many writers are left against all promises
			t.Fatal(err)
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Fatalf("it took %v", took)
		}
	}
}
