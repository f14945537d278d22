package cgroups

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"

	systemdbus "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// systemdTimeout bounds one request to systemd, which may be busy with a boot.
const systemdTimeout = time.Minute

// systemd is the connection to PID 1. It is made when it is first needed, and anew when it broke (daemon-reexec).
type systemd struct {
	mu   sync.Mutex
	conn *systemdbus.Conn
}

// connect answers a connection that works.
func (s *systemd) connect() (*systemdbus.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil && s.conn.Connected() {
		return s.conn, nil
	}
	s.disconnect()
	conn, err := systemdbus.NewWithContext(context.Background())
	if err != nil {
		return nil, fmt.Errorf("connect to systemd (cgroupDriver: cgroupfs does without): %w", err)
	}
	s.conn = conn
	return conn, nil
}

func (s *systemd) disconnect() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

// start starts a slice, and with it its parents. The limits of one that is there are brought up to date.
func (s *systemd) start(unit, description string, r *specs.LinuxResources) error {
	limits := properties(r)
	err := s.job(func(ctx context.Context, conn *systemdbus.Conn, done chan<- string) error {
		_, err := conn.StartTransientUnitContext(ctx, unit, "replace", append(limits,
			systemdbus.PropDescription(description),
			property("DefaultDependencies", false), // it outlives the services that a shutdown stops
			property("CPUAccounting", true), property("MemoryAccounting", true),
			property("IOAccounting", true), property("TasksAccounting", true),
		), done)
		return err
	})
	if isNamed(err, "org.freedesktop.systemd1.UnitExists") {
		err = s.set(unit, limits...)
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", unit, err)
	}
	return nil
}

// startScope makes a scope around a process.
func (s *systemd) startScope(unit, slice, description string, pid int) error {
	properties := []systemdbus.Property{
		systemdbus.PropDescription(description), systemdbus.PropSlice(slice), systemdbus.PropPids(uint32(pid)),
		property("CPUWeight", Weight(minShares)),
		property("CPUAccounting", true), property("MemoryAccounting", true), property("IOAccounting", true), property("TasksAccounting", true),
		property("Delegate", true),             // as all scopes of containers
		property("DefaultDependencies", false), // it outlives the services that a shutdown stops
		property("CollectMode", "inactive-or-failed"),
	}
	err := s.job(func(ctx context.Context, conn *systemdbus.Conn, done chan<- string) error {
		_, err := conn.StartTransientUnitContext(ctx, unit, "replace", properties, done)
		return err
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", unit, err)
	}
	return nil
}

// weigh gives a slice another share of the CPUs.
func (s *systemd) weigh(unit string, weight uint64) error {
	if err := s.set(unit, property("CPUWeight", weight)); err != nil {
		return fmt.Errorf("set CPUWeight of %s: %w", unit, err)
	}
	return nil
}

// stop stops a unit. One that is not there is no error.
func (s *systemd) stop(unit string) error {
	err := s.job(func(ctx context.Context, conn *systemdbus.Conn, done chan<- string) error {
		_, err := conn.StopUnitContext(ctx, unit, "replace", done)
		return err
	})
	if err != nil && !isNamed(err, "org.freedesktop.systemd1.NoSuchUnit") {
		return fmt.Errorf("stop %s: %w", unit, err)
	}
	return nil
}

// set changes properties of a unit until the next boot.
func (s *systemd) set(unit string, properties ...systemdbus.Property) error {
	conn, err := s.connect()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), systemdTimeout)
	defer cancel()
	return conn.SetUnitPropertiesContext(ctx, unit, true, properties...)
}

// job asks systemd for something that takes a while, and waits until it is done.
func (s *systemd) job(ask func(context.Context, *systemdbus.Conn, chan<- string) error) error {
	conn, err := s.connect()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), systemdTimeout)
	defer cancel()
	done := make(chan string, 1)
	if err := ask(ctx, conn, done); err != nil {
		return err
	}
	select {
	case result := <-done:
		if result != "done" {
			return fmt.Errorf("systemd's job ended as %q", result)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for systemd's job: %w", ctx.Err())
	}
}

// isNamed says whether systemd has answered with this error.
func isNamed(err error, name string) bool {
	var answer dbus.Error
	return errors.As(err, &answer) && answer.Name == name
}

func property(name string, value any) systemdbus.Property {
	return systemdbus.Property{Name: name, Value: dbus.MakeVariant(value)}
}

// percent is the step in which systemd keeps a CPU quota, in microseconds of a second.
const percent = 10_000

// properties are limits as systemd wants them. It must know them, for it writes what it knows anew whenever it reloads.
// What it keeps only roughly is rounded up, lest it bind tighter than was asked for.
func properties(r *specs.LinuxResources) []systemdbus.Property {
	var perSecond, memory, swap uint64 = math.MaxUint64, math.MaxUint64, math.MaxUint64 // no limit
	out := []systemdbus.Property{property("CPUWeight", Weight(*r.CPU.Shares))}
	if r.CPU.Quota != nil {
		perSecond = (uint64(*r.CPU.Quota)*1_000_000 / *r.CPU.Period + percent - 1) / percent * percent
		out = append(out, property("CPUQuotaPeriodUSec", *r.CPU.Period))
	}
	if r.Memory != nil {
		memory = uint64(*r.Memory.Limit)
		if r.Memory.Swap != nil {
			swap = uint64(*r.Memory.Swap - *r.Memory.Limit)
		}
	}
	for _, name := range []string{memoryMin, memoryLow, memoryHigh} {
		if bytes := setting(r, name); bytes != nil && *bytes == math.MaxInt64 {
			out = append(out, property(systemdNames[name], uint64(math.MaxUint64)))
		} else if bytes != nil {
			out = append(out, property(systemdNames[name], uint64(*bytes)))
		}
	}
	if r.Pids != nil {
		out = append(out, property("TasksMax", uint64(*r.Pids.Limit)))
	}
	return append(out, property("CPUQuotaPerSecUSec", perSecond), property("MemoryMax", memory), property("MemorySwapMax", swap))
}

// systemdNames are what systemd calls cgroup v2's settings.
var systemdNames = map[string]string{memoryMin: "MemoryMin", memoryLow: "MemoryLow", memoryHigh: "MemoryHigh"}

// removeSlice stops a slice that has no processes any more.
func (t *Tree) removeSlice(group string) error {
	pids, err := t.processes(group)
	if err != nil {
		return err
	}
	if len(pids) > 0 {
		return fmt.Errorf("remove %s: %d processes are in it", group, len(pids))
	}
	folder := filepath.Join(t.mount, group)
	if _, err := os.Stat(folder); err != nil {
		return ignoreGone(err)
	}
	if err := t.systemd.stop(path.Base(group)); err != nil {
		return err
	}
	// What set has written lies there until the next boot.
	if err := os.RemoveAll(filepath.Join("/run/systemd/system.control", path.Base(group)+".d")); err != nil {
		return fmt.Errorf("remove %s: %w", group, err)
	}
	return removeAll(folder) // what systemd did not know of
}
