// Package daemon starts a private containerd in a folder of its own, for the demonstration, the benchmark and the
// tests.
package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Daemon is one private containerd.
type Daemon struct {
	Dir     string
	process *os.Process
}

// config keeps everything below one folder and leaves out CRI, which podkeeper does without.
const config = `version = 2
root = %[1]q
state = %[2]q
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]
[grpc]
  address = %[3]q
[ttrpc]
  address = %[4]q
`

// Start starts containerd with its state below dir, in a session of its own so that Ctrl-C does not reach it, and waits
// until it answers. A daemon that runs there already is used. binary is a path or a name; extra folders are put before
// PATH.
func Start(binary, dir string, extra ...string) (*Daemon, error) {
	d := &Daemon{Dir: dir}
	if pid := d.pid(); pid != 0 {
		process, err := os.FindProcess(pid)
		if err == nil && d.answers() {
			d.process = process
			return d, nil
		}
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("make folder of containerd: %w", err)
	}
	file := filepath.Join(dir, "config.toml")
	text := fmt.Sprintf(config, filepath.Join(dir, "root"), filepath.Join(dir, "state"), d.Socket(), d.Socket()+".ttrpc")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("write containerd's configuration: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open containerd's log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(binary, "--config", file)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "PATH="+strings.Join(append(extra, os.Getenv("PATH")), ":"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start containerd: %w", err)
	}
	d.process = cmd.Process
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := os.WriteFile(d.pidFile(), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("note containerd's pid: %w", err), d.Stop())
	}
	for range 300 {
		if d.answers() {
			return d, nil
		}
		select {
		case err := <-ended:
			said, _ := os.ReadFile(log.Name())
			return nil, fmt.Errorf("containerd ended at once: %w: %s", err, said)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil, errors.Join(errors.New("containerd does not answer"), d.Stop())
}

// Socket is where it listens.
func (d *Daemon) Socket() string { return filepath.Join(d.Dir, "containerd.sock") }

// Pid is the process that was started last.
func (d *Daemon) Pid() int { return d.process.Pid }

func (d *Daemon) pidFile() string { return filepath.Join(d.Dir, "pid") }

// answers says whether something listens.
func (d *Daemon) answers() bool {
	c, err := net.DialTimeout("unix", d.Socket(), time.Second)
	if err != nil {
		return false
	}
	return c.Close() == nil
}

// pid is the noted process, if it is still a containerd of this folder.
func (d *Daemon) pid() int {
	text, err := os.ReadFile(d.pidFile())
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		return 0
	}
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !strings.Contains(string(args), d.Dir) {
		return 0
	}
	return pid
}

// Find answers the daemon that was started in a folder, by this process or another; nil if none runs.
func Find(dir string) *Daemon {
	d := &Daemon{Dir: dir}
	pid := d.pid()
	if pid == 0 {
		return nil
	}
	d.process, _ = os.FindProcess(pid)
	return d
}

// Kill ends it without a chance to clean up, as a crash would.
func (d *Daemon) Kill() error {
	if err := d.process.Kill(); err != nil {
		return fmt.Errorf("kill containerd: %w", err)
	}
	return d.wait()
}

// Stop ends it and waits for its end. Its folder stays, and so do containers.
func (d *Daemon) Stop() error {
	if err := d.process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop containerd: %w", err)
	}
	return d.wait()
}

func (d *Daemon) wait() error {
	for range 200 {
		if syscall.Kill(d.process.Pid, 0) != nil || d.pid() == 0 {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("containerd %d does not end", d.process.Pid)
}
