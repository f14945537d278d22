// Package logindtest is a logind for tests, on a system bus of its own: it hands out inhibitors, tells of shutdowns, and reads its
// configuration anew when systemd sends it SIGHUP, which it stands in for as well.
package logindtest

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"
	"golang.org/x/sys/unix"
)

// config is that of a system bus on which everybody may do everything.
const config = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_type="signal"/><allow send_requested_reply="true"/><allow receive_type="method_call"/><allow receive_type="signal"/><allow receive_requested_reply="true"/></policy></busconfig>
`

const (
	service = "org.freedesktop.login1"
	object  = dbus.ObjectPath("/org/freedesktop/login1")
	manager = service + ".Manager"
	systemd = "org.freedesktop.systemd1"
)

// Logind is one that runs.
type Logind struct {
	t     testing.TB
	dir   string
	bus   *exec.Cmd
	conn  *dbus.Conn
	props *prop.Properties

	mu     sync.Mutex
	locks  []*os.File // our ends of inhibitors
	asked  []string   // what they were taken for
	reload func() time.Duration
}

// Start starts a bus, and logind on it, which waits with a shutdown for at most so long. The test is skipped where there is no
// dbus-daemon.
func Start(t testing.TB, delay time.Duration) *Logind {
	t.Helper()
	if _, err := exec.LookPath("dbus-daemon"); err != nil {
		t.Skip("there is no dbus-daemon: apt-get install dbus-daemon")
	}
	dir, err := os.MkdirTemp("", "logindtest") // t.TempDir's is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	l := &Logind{t: t, dir: dir}
	t.Cleanup(func() {
		l.StopBus()
		_ = os.RemoveAll(dir)
	})
	l.StartBus(delay)
	return l
}

// Address is that of the bus, for DBUS_SYSTEM_BUS_ADDRESS.
func (l *Logind) Address() string { return "unix:path=" + filepath.Join(l.dir, "bus") }

// StartBus starts the bus, and logind on it.
func (l *Logind) StartBus(delay time.Duration) {
	l.t.Helper()
	file := filepath.Join(l.dir, "bus.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, config, filepath.Join(l.dir, "bus")), 0o600); err != nil {
		l.t.Fatal(err)
	}
	l.bus = exec.Command("dbus-daemon", "--config-file="+file, "--nofork", "--nopidfile", "--print-address")
	out, err := l.bus.StdoutPipe()
	if err == nil {
		err = l.bus.Start()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil { // it listens
		l.t.Fatal(err)
	}
	if err := l.serve(delay); err != nil {
		l.t.Fatal(err)
	}
}

// StopBus ends the bus, and with it every connection. Inhibitors stay, as logind's do.
func (l *Logind) StopBus() {
	if l.conn != nil {
		_ = l.conn.Close()
		l.conn = nil
	}
	if l.bus != nil && l.bus.Process != nil {
		_ = l.bus.Process.Kill()
		_ = l.bus.Wait()
		l.bus = nil
	}
}

func (l *Logind) serve(delay time.Duration) error {
	conn, err := dbus.Connect(l.Address())
	if err != nil {
		return err
	}
	l.conn = conn
	l.props, err = prop.Export(conn, object, prop.Map{manager: {
		"InhibitDelayMaxUSec":  {Value: uint64(delay.Microseconds()), Emit: prop.EmitFalse},
		"PreparingForShutdown": {Value: false, Emit: prop.EmitFalse},
	}})
	err = errors.Join(err, conn.ExportMethodTable(map[string]any{"Inhibit": l.inhibit}, object, manager),
		conn.ExportMethodTable(map[string]any{"KillUnit": l.killUnit}, "/org/freedesktop/systemd1", systemd+".Manager"))
	for _, name := range []string{service, systemd} {
		_, nameErr := conn.RequestName(name, dbus.NameFlagDoNotQueue)
		err = errors.Join(err, nameErr)
	}
	return err
}

// Set changes whether the host is about to shut down, and tells of it. Nobody takes an inhibitor of one that has begun.
func (l *Logind) Set(preparing bool) {
	l.t.Helper()
	l.props.SetMust(manager, "PreparingForShutdown", preparing)
	if err := l.conn.Emit(object, manager+".PrepareForShutdown", preparing); err != nil {
		l.t.Fatal(err)
	}
}

// OnReload says for how long it waits once its configuration was read anew.
func (l *Logind) OnReload(delay func() time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reload = delay
}

func (l *Logind) inhibit(what, who, why, mode string) (dbus.UnixFD, *dbus.Error) {
	if l.props.GetMust(manager, "PreparingForShutdown").(bool) {
		return 0, dbus.NewError(service+".OperationInProgress", []any{"The operation inhibition has been requested for is already running"})
	}
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return 0, dbus.MakeFailedError(err)
	}
	ours, theirs := os.NewFile(uintptr(ends[0]), "inhibitor"), ends[1]
	l.mu.Lock()
	defer l.mu.Unlock()
	l.locks, l.asked = append(l.locks, ours), append(l.asked, strings.Join([]string{what, who, why, mode}, ": "))
	time.AfterFunc(time.Second, func() { _ = unix.Close(theirs) }) // it was sent by then
	return dbus.UnixFD(theirs), nil
}

func (l *Logind) killUnit(unit, whom string, signal int32) *dbus.Error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if unit != "systemd-logind.service" || whom != "main" || signal != 1 || l.reload == nil {
		return dbus.MakeFailedError(fmt.Errorf("signal %d to %s of %s", signal, whom, unit))
	}
	l.props.SetMust(manager, "InhibitDelayMaxUSec", uint64(l.reload().Microseconds()))
	return nil
}

// Asked is what every inhibitor was taken for, in order.
func (l *Logind) Asked() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.asked...)
}

// Held is how many inhibitors were not closed yet.
func (l *Logind) Held() (held int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, lock := range l.locks {
		_ = lock.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := lock.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			held++
		}
	}
	return held
}
