package logind

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// DropIn is where logind is told for how long to wait, until the next boot. Its name is behind those of others, as
// unattended-upgrades-logind-maxdelay.conf: of two that say it, the last one by name is followed.
const DropIn = "/run/systemd/logind.conf.d/zz-podkeeper.conf"

// setting is what a drop-in says.
const setting = "InhibitDelayMaxSec"

// configDirs are where drop-ins are looked for (logind.conf(5)).
var configDirs = []string{"/etc/systemd/logind.conf.d", "/run/systemd/logind.conf.d", "/usr/local/lib/systemd/logind.conf.d", "/usr/lib/systemd/logind.conf.d"}

// How often is looked whether logind has read its configuration anew, and for how long.
const (
	reloadPoll     = 100 * time.Millisecond
	reloadPatience = 3 * time.Second
)

// Allow has logind wait for at least so long. root is the folder that the host's / is. The error says what stands in the way; then it
// waits for as long as it did.
func (c *Conn) Allow(ctx context.Context, root string, delay time.Duration) error {
	now, err := c.MaxDelay(ctx)
	if err != nil || now >= delay {
		return err
	}
	if err := writeDropIn(filepath.Join(root, DropIn), delay); err != nil {
		return fmt.Errorf("have logind wait for %s, not %s: %w", delay, now, err)
	}
	if err := call(ctx, c.bus.Object(systemd, systemdObject), systemd+".Manager.KillUnit", []any{unit, "main", int32(syscall.SIGHUP)}); err != nil {
		return fmt.Errorf("have logind read %s: %w", DropIn, err)
	}
	for end := time.Now().Add(reloadPatience); time.Now().Before(end); {
		if now, err = c.MaxDelay(ctx); err != nil || now >= delay {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(reloadPoll):
		}
	}
	return fmt.Errorf("logind waits for %s at most, not for %s: %w", now, delay, inTheWay(root))
}

// inTheWay is why logind does not follow our drop-in.
func inTheWay(root string) error {
	rivals, err := Rivals(root)
	if err != nil {
		return err
	}
	if len(rivals) == 0 {
		return fmt.Errorf("it has not read %s: systemctl reload-or-restart systemd-logind", DropIn)
	}
	return fmt.Errorf("%s has the last word on %s: set it there", rivals[len(rivals)-1], setting)
}

// writeDropIn writes a drop-in that everybody may read, in place of the one before.
func writeDropIn(file string, delay time.Duration) error {
	dir := filepath.Dir(file)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chmod(dir, 0o755)); err != nil { // whatever our umask is
			return err
		}
	}
	seconds := (delay + time.Second - 1) / time.Second
	text := fmt.Sprintf("# Made by podkeeper, for the shutdown grace period of Pods.\n[Login]\n%s=%d\n", setting, seconds)
	f, err := os.CreateTemp(dir, ".podkeeper-")
	if err != nil {
		return err
	}
	defer f.Close()
	defer func() { _ = os.Remove(f.Name()) }() // where it has not got its name
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Chmod(0o644)); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return os.Rename(f.Name(), file)
}

// Rivals are the drop-ins that set the delay and have the last word over ours, in the order in which they are read.
func Rivals(root string) ([]string, error) {
	found := map[string]string{} // by name: of two with one name the folder before is followed
	var names []string
	for _, dir := range configDirs {
		entries, err := os.ReadDir(filepath.Join(root, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			name := e.Name()
			if filepath.Ext(name) == ".conf" && found[name] == "" && name > filepath.Base(DropIn) {
				found[name] = filepath.Join(dir, name)
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	var rivals []string
	for _, name := range names {
		sets, err := setsDelay(filepath.Join(root, found[name]))
		if err != nil {
			return nil, err
		}
		if sets {
			rivals = append(rivals, found[name])
		}
	}
	return rivals, nil
}

// setsDelay says whether a file sets for how long logind waits.
func setsDelay(file string) (bool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return false, err
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		name, _, is := strings.Cut(lines.Text(), "=")
		if is && strings.TrimSpace(name) == setting {
			return true, nil
		}
	}
	return false, lines.Err()
}

// Forget has logind wait no longer than it would without us, from the next boot or its next start on.
func Forget(root string) error {
	if err := os.Remove(filepath.Join(root, DropIn)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_ = os.Remove(filepath.Dir(filepath.Join(root, DropIn))) // where nobody else has anything in it
	return nil
}
