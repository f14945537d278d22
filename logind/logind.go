// Package logind is the room of the host's end: systemd-logind tells of a shutdown, and waits with it for those who have asked it to.
//
//	logind.go  a connection to it, and the lock that delays a shutdown
//	delay.go   for how long at most it waits, and how that is made longer
//
// It must not know what is done meanwhile, nor anything of the other rooms.
package logind

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/godbus/dbus/v5"
)

// What is called (org.freedesktop.login1(5), org.freedesktop.systemd1(5)).
const (
	service = "org.freedesktop.login1"
	object  = "/org/freedesktop/login1"
	manager = service + ".Manager"
	unit    = "systemd-logind.service"

	systemd       = "org.freedesktop.systemd1"
	systemdObject = "/org/freedesktop/systemd1"
)

// patience is how long one call may take.
const patience = 10 * time.Second

// Conn is a connection to logind, over the system bus.
type Conn struct {
	bus     *dbus.Conn
	signals chan *dbus.Signal
	end     context.CancelFunc
}

// Connect connects to logind, and follows from then on what it tells. The error says why it is not to be had.
func Connect(ctx context.Context) (*Conn, error) {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	alive, end := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(limited, end) // a bus that does not answer
	bus, err := dbus.ConnectSystemBus(dbus.WithContext(alive))
	if err != nil {
		stop()
		end()
		return nil, fmt.Errorf("connect to the system bus: %w", err)
	}
	c := &Conn{bus: bus, signals: make(chan *dbus.Signal, 16), end: end}
	bus.Signal(c.signals)
	err = bus.AddMatchSignalContext(limited, dbus.WithMatchSender(service), dbus.WithMatchObjectPath(object), dbus.WithMatchInterface(manager), dbus.WithMatchMember("PrepareForShutdown"))
	if err == nil && !stop() {
		err = limited.Err()
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("follow logind: %w", err)
	}
	return c, nil
}

// Close ends the connection. Locks stay.
func (c *Conn) Close() { c.end() }

// Changed receives when logind may have begun a shutdown or given one up, which Preparing tells, and is closed when the connection is
// lost.
func (c *Conn) Changed() <-chan *dbus.Signal { return c.signals }

// Preparing says whether the host is about to shut down.
func (c *Conn) Preparing(ctx context.Context) (preparing bool, err error) {
	return preparing, c.property(ctx, "PreparingForShutdown", &preparing)
}

// MaxDelay is for how long logind waits with a shutdown at most.
func (c *Conn) MaxDelay(ctx context.Context) (time.Duration, error) {
	var us uint64
	err := c.property(ctx, "InhibitDelayMaxUSec", &us)
	return time.Duration(us) * time.Microsecond, err
}

func (c *Conn) property(ctx context.Context, name string, to any) error {
	var value dbus.Variant
	err := call(ctx, c.bus.Object(service, object), "org.freedesktop.DBus.Properties.Get", []any{manager, name}, &value)
	if err == nil {
		err = value.Store(to)
	}
	if err != nil {
		return fmt.Errorf("read %s of logind: %w", name, err)
	}
	return nil
}

// Inhibit has the next shutdown wait until the lock is closed, or the time is up. There is none any more once a shutdown has begun.
func (c *Conn) Inhibit(ctx context.Context, who, why string) (io.Closer, error) {
	var fd dbus.UnixFD
	if err := call(ctx, c.bus.Object(service, object), manager+".Inhibit", []any{"shutdown", who, why, "delay"}, &fd); err != nil {
		return nil, fmt.Errorf("take an inhibitor of logind: %w", err)
	}
	return os.NewFile(uintptr(fd), "inhibitor"), nil
}

func call(ctx context.Context, of dbus.BusObject, method string, args []any, to ...any) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return of.CallWithContext(ctx, method, 0, args...).Store(to...)
}
