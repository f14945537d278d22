package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	probeLimit = 10 * time.Second // KVM that works needs one
	saveLimit  = 5 * time.Minute
)

// A guest is a built guest and the way this host runs it.
type guest struct {
	dir       string // root.img, vmlinuz, initrd and the saved states: what is there is never written again
	scratch   string // the run's own folder
	accel     accelerator
	arguments string // the kernel's
	state     string // names the saved state that fits this qemu, machine and processor: state + ".qcow2" and ".ram"
}

func newGuest(ctx context.Context, dir, scratch string, selinux bool) (*guest, error) {
	g := &guest{dir: dir, scratch: scratch, arguments: kernelArguments + " selinux=0"}
	if selinux {
		g.arguments = kernelArguments + " selinux=1 audit=1" // so that the kernel tells of what it denies
	}
	var err error
	if g.accel, err = g.probe(ctx); err != nil {
		return nil, err
	}
	version, err := tool(ctx, "qemu-system-x86_64", "--version")
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s %q %s", version, g.accel.arguments(), g.arguments)
	if g.accel == kvm {
		cpus, err := os.ReadFile("/proc/cpuinfo")
		if err != nil {
			return nil, fmt.Errorf("read processor: %w", err)
		}
		for line := range strings.Lines(string(cpus)) {
			if strings.HasPrefix(line, "model name") || strings.HasPrefix(line, "flags") {
				_, _ = io.WriteString(h, line)
			}
		}
	}
	g.state = filepath.Join(dir, fmt.Sprintf("state-%s-%x", g.accel, h.Sum(nil)[:6]))
	return g, nil
}

// probe finds out whether KVM runs a kernel here; that /dev/kvm exists proves nothing. It asks once per boot of the
// host.
func (g *guest) probe(ctx context.Context) (accelerator, error) {
	if _, err := os.Stat("/dev/kvm"); err != nil {
		return tcg, nil
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	note := filepath.Join(g.dir, "accelerator")
	known, err := os.ReadFile(note)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read accelerator: %w", err)
	}
	if rest, ok := strings.CutPrefix(string(known), string(boot)); ok {
		return accelerator(rest), nil
	}
	limited, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	cmd := quiet(exec.CommandContext(limited, "qemu-system-x86_64", append(kvm.arguments(),
		"-kernel", g.dir+"/vmlinuz", "-initrd", g.dir+"/initrd", "-append", kernelArguments+" vm.probe",
		"-serial", "stdio")...))
	accel := tcg
	if out, err := cmd.Output(); err == nil && strings.Contains(string(out), "vm-probe-passed") {
		accel = kvm
	}
	if ctx.Err() != nil {
		return "", ctx.Err() // we were stopped, and have learnt nothing
	}
	if err := os.WriteFile(note, append(boot, accel...), 0o644); err != nil {
		return "", fmt.Errorf("keep accelerator: %w", err)
	}
	return accel, nil
}

// run does the request in a guest of its own, its output to w, and returns the command's exit status.
func (g *guest) run(ctx context.Context, req request, w io.Writer) (int, error) {
	state := ""
	if !req.cold {
		var err error
		if state, err = g.saved(ctx); err != nil {
			return 0, err
		}
	}
	backing, format := filepath.Join(g.dir, "root.img"), "raw"
	if state != "" {
		backing, format = g.state+".qcow2", "qcow2"
	}
	if err := g.disks(ctx, backing, format); err != nil {
		return 0, err
	}
	if err := fill(filepath.Join(g.scratch, "in.img"), req); err != nil {
		return 0, err
	}
	r := &run{guest: g, req: req, out: w, token: rand.Text()}
	for boot := 0; boot <= req.reboots; boot++ {
		status, err := r.boot(ctx, state)
		if err == nil {
			return status, g.collect(req, status)
		}
		if !errors.Is(err, errGone) || req.reboots == 0 {
			return 0, err
		}
		state = "" // the next life of the same disk is a true boot
	}
	return 0, fmt.Errorf("%w more often than -reboots %d allows", errGone, req.reboots)
}

// disks makes the scratch folder and the disks of a new guest in it.
func (g *guest) disks(ctx context.Context, backing, format string) error {
	if err := os.RemoveAll(g.scratch); err != nil {
		return fmt.Errorf("clear scratch folder: %w", err)
	}
	if err := os.Mkdir(g.scratch, 0o700); err != nil {
		return fmt.Errorf("make scratch folder: %w", err)
	}
	for _, name := range []string{"in.img", "out.img"} {
		name = filepath.Join(g.scratch, name)
		if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, diskSize)); err != nil {
			return fmt.Errorf("make disk: %w", err)
		}
	}
	_, err := tool(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F", format, filepath.Join(g.scratch, "disk.qcow2"))
	return err
}

// fill writes the files that go in. The disk keeps its size.
func fill(disk string, req request) error {
	f, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("open disk: %w", err)
	}
	if err := errors.Join(pack(f, req), f.Close()); err != nil {
		return err
	}
	info, err := os.Stat(disk)
	if err != nil {
		return fmt.Errorf("pack files: %w", err)
	}
	if info.Size() > diskSize {
		return fmt.Errorf("pack files: more than %d bytes", int64(diskSize))
	}
	return nil
}

// collect takes the files out, when the command has ended.
func (g *guest) collect(req request, status int) error {
	if len(req.out) == 0 {
		return nil
	}
	f, err := os.Open(filepath.Join(g.scratch, "out.img"))
	if err != nil {
		return fmt.Errorf("open disk: %w", err)
	}
	defer f.Close()
	if err := unpack(f, req.out); err != nil {
		return fmt.Errorf("the command ended with status %d, but: %w", status, err)
	}
	return nil
}

// saved returns the file of the saved state, after making it where there is none: a guest that has booted and waits.
func (g *guest) saved(ctx context.Context) (string, error) {
	ram := g.state + ".ram"
	if _, err := os.Stat(ram); err == nil {
		return ram, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("look for saved state: %w", err)
	}
	fmt.Fprintln(os.Stderr, "vm: booting the guest once, to start from there")
	if err := g.disks(ctx, filepath.Join(g.dir, "root.img"), "raw"); err != nil {
		return "", err
	}
	m, err := g.start(ctx, g.scratch, "")
	if err != nil {
		return "", err
	}
	err = m.save()
	if !errors.Is(err, errCut) {
		m.end(nil)
	}
	if died := m.wait(); died != nil {
		err = died
	}
	if err != nil {
		m.console.show(os.Stderr)
		return "", fmt.Errorf("save state: %w", err)
	}
	// The state counts once its memory is there, so that goes last.
	for _, ext := range []string{".qcow2", ".ram"} {
		if err := os.Rename(filepath.Join(g.scratch, "disk"+ext), g.state+ext); err != nil {
			return "", fmt.Errorf("keep saved state: %w", err)
		}
	}
	return ram, nil
}

// save boots the machine and writes its memory to disk.ram. The machine stands still after that.
func (m *machine) save() error {
	if err := m.ready(); err != nil {
		return err
	}
	defer m.limit(saveLimit, errors.New("no end within the time limit"))()
	if err := m.monitor.do("migrate-set-parameters", map[string]any{"max-bandwidth": 8 << 30}, nil); err != nil {
		return err
	}
	if err := m.monitor.do("migrate", map[string]any{"uri": "exec:cat >disk.ram"}, nil); err != nil {
		return err
	}
	for {
		var progress struct{ Status string }
		if err := m.monitor.do("query-migrate", nil, &progress); err != nil {
			return err
		}
		switch progress.Status {
		case "completed":
			return nil
		case "failed", "cancelled":
			return errors.New("qemu could not write it")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// A run is one request under way, over one or several boots.
type run struct {
	guest    *guest
	req      request
	out      io.Writer
	token    string
	deadline time.Time // set when the command first starts
}

// boot is one life of the run's guest. errGone says that there may be another.
func (r *run) boot(ctx context.Context, state string) (int, error) {
	m, err := r.guest.start(ctx, r.guest.scratch, state)
	if err != nil {
		return 0, err
	}
	status, err := r.converse(m, state)
	if !errors.Is(err, errCut) {
		m.end(nil)
	}
	died := m.wait()
	if err == nil {
		return status, nil
	}
	if died != nil {
		err = died
	}
	if !errors.Is(err, errGone) {
		m.console.show(os.Stderr)
	}
	return 0, err
}

// converse starts the command and relays its output until its end.
func (r *run) converse(m *machine, state string) (int, error) {
	if state == "" {
		if err := m.ready(); err != nil {
			return 0, err
		}
	} else if err := m.resume(); err != nil {
		return 0, err
	}
	if r.deadline.IsZero() {
		r.deadline = time.Now().Add(r.req.limit)
	}
	defer m.limit(time.Until(r.deadline), fmt.Errorf("%w: the command did not end within %v", errHang, r.req.limit))()
	if _, err := fmt.Fprintf(m.port, "go %s %d %s\n", r.token, time.Now().Unix(), rand.Text()); err != nil {
		return 0, fmt.Errorf("start command: %w: %w", errCut, err)
	}
	verdict, err := relay(r.out, m.port, r.token)
	if err != nil {
		return 0, err
	}
	if verdict == "boot" { // the guest shuts down in good order, and the machine ends with that
		_, err := io.Copy(io.Discard, m.port)
		return 0, errors.Join(errCut, err)
	}
	word, rest, _ := strings.Cut(verdict, " ")
	if word == "broken" {
		return 0, fmt.Errorf("unpack files in the guest: %s", rest)
	}
	number, complaint, _ := strings.Cut(rest, " ")
	status, err := strconv.Atoi(number)
	if word != "exit" || err != nil {
		return 0, fmt.Errorf("read the agent's verdict: %q", verdict)
	}
	if complaint != "ok" {
		return 0, fmt.Errorf("the command ended with status %d, but files could not be handed out: %s", status, complaint)
	}
	return status, nil
}
