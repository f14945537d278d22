package logind

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/podkeeper/podkeeper/logind/logindtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connected is a logind that waits for so long, and a connection to it.
func connected(t *testing.T, delay time.Duration) (*logindtest.Logind, *Conn) {
	t.Helper()
	l := logindtest.Start(t, delay)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", l.Address())
	c, err := Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return l, c
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

func TestAShutdownIsToldOfAndWaits(t *testing.T) {
	l, c := connected(t, time.Minute)
	lock, err := c.Inhibit(t.Context(), "podkeeper", "because")
	if err != nil {
		t.Fatal(err)
	}
	if got := l.Asked(); !slices.Equal(got, []string{"shutdown: podkeeper: because: delay"}) || l.Held() != 1 {
		t.Errorf("it was asked for %q, and %d are held", got, l.Held())
	}
	for _, preparing := range []bool{true, false} {
		if got, err := c.Preparing(t.Context()); err != nil || got == preparing {
			t.Errorf("before it says %v: %v", got, err)
		}
		l.Set(preparing)
		if _, more := <-c.Changed(); !more {
			t.Fatal("the connection is lost")
		}
		if got, err := c.Preparing(t.Context()); err != nil || got != preparing {
			t.Errorf("it says %v: %v", got, err)
		}
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the lock is held", func() bool { return l.Held() == 0 })
	l.Set(true)
	if _, err := c.Inhibit(t.Context(), "podkeeper", "too late"); err == nil || !strings.Contains(err.Error(), "already running") {
		t.Errorf("a shutdown that has begun waits: %v", err)
	}
}

func TestAConnectionThatIsLostIsNoticed(t *testing.T) {
	l, c := connected(t, time.Minute)
	lock, err := c.Inhibit(t.Context(), "podkeeper", "because")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	l.StopBus()
	for range c.Changed() {
	}
	if _, err := c.MaxDelay(t.Context()); err == nil {
		t.Error("nobody answers, and there is an answer")
	}
	if l.Held() != 1 {
		t.Error("the lock is gone with the connection")
	}
	if _, err := Connect(t.Context()); err == nil || !strings.Contains(err.Error(), "connect to the system bus") {
		t.Errorf("there is a bus: %v", err)
	}
}

func TestABusThatDoesNotAnswerIsGivenUp(t *testing.T) {
	dir, err := os.MkdirTemp("", "bus")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	mute := listen(t, filepath.Join(dir, "bus"))
	defer mute.Close()
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(dir, "bus"))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := Connect(ctx); err == nil {
		t.Error("it is connected")
	}
}

func TestLogindIsHadWaitForLonger(t *testing.T) {
	for sentence, row := range map[string]struct {
		delay, wanted, after time.Duration
		files                map[string]string
		written, fault       string
	}{
		"it waits for longer already":                     {delay: time.Minute, wanted: time.Minute},
		"a drop-in is written":                            {delay: 5 * time.Second, wanted: 90500 * time.Millisecond, after: 91 * time.Second, written: "InhibitDelayMaxSec=91\n"},
		"that of unattended-upgrades does not outlast us": {delay: 30 * time.Second, wanted: time.Minute, after: time.Minute, files: map[string]string{"/usr/lib/systemd/logind.conf.d/unattended-upgrades-logind-maxdelay.conf": "[Login]\nInhibitDelayMaxSec=30\n"}, written: "InhibitDelayMaxSec=60\n"},
		"another drop-in has the last word": {delay: 5 * time.Second, wanted: time.Minute, after: 5 * time.Second, files: map[string]string{
			"/etc/systemd/logind.conf.d/zzz.conf":     "[Login]\nKillUserProcesses=no\n",
			"/usr/lib/systemd/logind.conf.d/zzy.conf": "[Login]\n InhibitDelayMaxSec = 5\n",
			"/usr/lib/systemd/logind.conf.d/zzz.conf": "[Login]\nInhibitDelayMaxSec=5\n",
			"/run/systemd/logind.conf.d/zzzz.bak":     "[Login]\nInhibitDelayMaxSec=5\n",
		}, written: "InhibitDelayMaxSec=60\n", fault: "logind waits for 5s at most, not for 1m0s: /usr/lib/systemd/logind.conf.d/zzy.conf has the last word on InhibitDelayMaxSec: set it there"},
		"it does not read it": {delay: 5 * time.Second, wanted: time.Minute, after: 5 * time.Second, written: "InhibitDelayMaxSec=60\n", fault: "it has not read /run/systemd/logind.conf.d/zz-podkeeper.conf"},
		"it cannot be told":   {delay: 5 * time.Second, wanted: time.Minute, written: "InhibitDelayMaxSec=60\n", fault: "have logind read /run/systemd/logind.conf.d/zz-podkeeper.conf: "},
	} {
		t.Run(sentence, func(t *testing.T) {
			l, c := connected(t, row.delay)
			root := t.TempDir()
			for file, text := range row.files {
				file = filepath.Join(root, file)
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if row.after > 0 {
				l.OnReload(func() time.Duration { return row.after })
			}
			err := c.Allow(t.Context(), root, row.wanted)
			if (err == nil) != (row.fault == "") || err != nil && !strings.Contains(err.Error(), row.fault) {
				t.Errorf("it says %v", err)
			}
			text, _ := os.ReadFile(filepath.Join(root, DropIn))
			if _, says, _ := strings.Cut(string(text), "[Login]\n"); says != row.written {
				t.Errorf("the drop-in says %q", says)
			}
			if err := Forget(root); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Join(root, DropIn)); err == nil {
				t.Error("it is not removed")
			}
		})
	}
}

// listen has a socket that nobody answers at.
func listen(t *testing.T, path string) net.Listener {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
