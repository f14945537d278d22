package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// How a guest may end before its time.
var (
	errPanic = errors.New("kernel panic")
	errHang  = errors.New("hang")
	errGone  = errors.New("the guest ended by itself")
	errBoot  = errors.New("the guest did not boot in time")
	errCut   = errors.New("the guest fell silent") // what it died of says more
)

const (
	bootLimit = 5 * time.Minute // a quiet host needs 15 s without KVM
	exitLimit = 30 * time.Second
)

// kernelArguments make emulation bearable: no mitigations, no randomness, no clock checks. A panic ends the machine. Pressure is told of
// (psi), which Debian's kernel leaves out unless it is asked for.
const kernelArguments = "console=ttyS0 panic=-1 quiet mitigations=off init_on_alloc=0 norandmaps nokaslr " +
	"rcupdate.rcu_expedited=1 apparmor=0 audit=0 psi=1 nowatchdog no_timer_check tsc=reliable clocksource=tsc"

// An accelerator is how qemu runs the guest's code.
type accelerator string

const (
	kvm accelerator = "kvm"
	tcg accelerator = "tcg"
)

// arguments are those of the bare machine. A reboot, a power-off and a panic all end it.
func (a accelerator) arguments() []string {
	args := strings.Fields("-M q35,hpet=off -m 2048 -nodefaults -no-user-config -display none -no-reboot -net none")
	if a == kvm {
		return append(args, strings.Fields("-accel kvm -cpu host -smp 2")...)
	}
	return append(args, strings.Fields("-accel tcg,thread=single,tb-size=512 "+
		"-cpu max,la57=off,smap=off,smep=off,pku=off,svm=off -smp 1")...)
}

// A machine is one life of a guest, from power-on (or a saved state) to its end.
type machine struct {
	cmd     *exec.Cmd
	end     context.CancelCauseFunc // kills it; the first cause is what it died of
	ctx     context.Context
	port    net.Conn // to guest/agent
	monitor *monitor
	console *console
	stderr  bytes.Buffer // qemu's own; to be read after wait
	threads sync.WaitGroup
}

// start runs qemu in folder dir, where the disks disk.qcow2, in.img and out.img are. With state, a file, the guest goes
// on where it was saved. Whoever starts a machine must wait for it.
func (g *guest) start(ctx context.Context, dir, state string) (*machine, error) {
	m := &machine{}
	m.ctx, m.end = context.WithCancelCause(ctx)
	args := append(g.accel.arguments(),
		"-kernel", g.dir+"/vmlinuz", "-initrd", g.dir+"/initrd", "-append", g.arguments,
		"-drive", "file=disk.qcow2,if=virtio,cache=unsafe",
		"-drive", "file=in.img,format=raw,if=virtio,cache=unsafe",
		"-drive", "file=out.img,format=raw,if=virtio,cache=unsafe",
		"-chardev", "socket,id=port,fd=3", "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=port,nr=1",
		"-chardev", "socket,id=monitor,fd=4", "-mon", "chardev=monitor,mode=control",
		"-chardev", "socket,id=console,fd=5", "-serial", "chardev:console")
	if state != "" {
		args = append(args, "-incoming", "exec:cat "+quote(state))
	}
	m.cmd = quiet(exec.CommandContext(m.ctx, "qemu-system-x86_64", args...))
	m.cmd.Dir = dir
	m.cmd.Stderr = &m.stderr
	lines, err := m.connect(3)
	if err != nil {
		return nil, err
	}
	m.port, m.monitor = lines[0], newMonitor(lines[1])
	m.console = &console{onPanic: func(line string) { m.end(fmt.Errorf("%w: %s", errPanic, line)) }}
	err = m.cmd.Start()
	for _, f := range m.cmd.ExtraFiles {
		f.Close() // qemu alone shall hold its ends, so that ours end with it
	}
	if err != nil {
		m.end(nil)
		return nil, fmt.Errorf("start qemu: %w", err)
	}
	m.threads.Go(m.monitor.listen)
	m.threads.Go(func() { m.console.listen(lines[2]) })
	if err := m.monitor.do("qmp_capabilities", nil, nil); err != nil {
		return nil, errors.Join(err, m.wait())
	}
	return m, nil
}

// connect gives the child n connections, its file descriptors from 3 on, and returns our ends.
func (m *machine) connect(n int) ([]net.Conn, error) {
	var ours []net.Conn
	for range n {
		conn, theirs, err := socketPair()
		if err != nil {
			return nil, err
		}
		ours = append(ours, conn)
		m.cmd.ExtraFiles = append(m.cmd.ExtraFiles, theirs)
	}
	return ours, nil
}

// socketPair makes a connection to a child: our end, and a file to hand down.
func socketPair() (net.Conn, *os.File, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	file := os.NewFile(uintptr(fds[0]), "socket")
	defer file.Close() // FileConn has its own copy
	theirs := os.NewFile(uintptr(fds[1]), "socket")
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("make socket pair: %w", err), theirs.Close())
	}
	return conn, theirs, nil
}

// limit ends the machine with a cause when time is up, unless it is called off before.
func (m *machine) limit(d time.Duration, cause error) (callOff func()) {
	timer := time.AfterFunc(d, func() { m.end(cause) })
	return func() { timer.Stop() }
}

// ready waits until the guest has booted.
func (m *machine) ready() error {
	defer m.limit(bootLimit, errBoot)()
	line, err := readLine(m.port)
	if err != nil {
		return fmt.Errorf("wait for the guest to boot: %w: %w", errCut, err)
	}
	if line != "ready" {
		return fmt.Errorf("wait for the guest to boot: it said %q", line)
	}
	return nil
}

// resume waits until the guest goes on from its saved state, in which it was ready.
func (m *machine) resume() error {
	defer m.limit(bootLimit, errBoot)()
	select {
	case <-m.monitor.resumed:
		return nil
	case <-m.monitor.answers: // closed: nothing was asked
		return fmt.Errorf("wait for the guest to go on: %w", errCut)
	}
}

// wait returns when the machine has ended, and says what it died of: nil if we ended it without a complaint.
func (m *machine) wait() error {
	defer m.end(nil)
	defer m.limit(exitLimit, errors.New("qemu did not end"))()
	err := m.cmd.Wait()
	m.threads.Wait()
	_ = m.port.Close() // nobody is at the other end
	cause := context.Cause(m.ctx)
	switch {
	case cause != nil && !errors.Is(cause, context.Canceled):
		return cause
	case cause != nil:
		return nil
	case m.monitor.reason != "":
		return fmt.Errorf("%w (%s)", errGone, m.monitor.reason)
	}
	return fmt.Errorf("run qemu: %w: %s", err, lastLine(m.stderr.Bytes()))
}

// readLine reads a line byte by byte, so that nothing behind it is lost.
func readLine(r io.Reader) (string, error) {
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := io.ReadFull(r, b); err != nil {
			return string(line), err
		}
		if b[0] == '\n' {
			return string(line), nil
		}
		line = append(line, b[0])
	}
}
