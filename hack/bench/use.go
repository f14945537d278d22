package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// use is what a process has used.
type use struct {
	rss, pss, anonymous float64 // MiB
	cpu                 float64 // seconds since it started
}

// use is what the agent's process has used.
func (a *agent) use() (use, error) {
	if a.broken != nil {
		return use{}, a.broken
	}
	return useOf(a.cmd.Process.Pid)
}

// useOf reads /proc.
func useOf(pid int) (use, error) {
	var u use
	for file, keys := range map[string]map[string]*float64{
		"status":       {"VmRSS": &u.rss, "RssAnon": &u.anonymous},
		"smaps_rollup": {"Pss": &u.pss},
	} {
		text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), file))
		if err != nil {
			return u, fmt.Errorf("look at process: %w", err)
		}
		for key, into := range keys {
			kib, err := kibibytes(string(text), key)
			if err != nil {
				return u, fmt.Errorf("look at process: %w", err)
			}
			*into = kib / 1024
		}
	}
	var err error
	if u.cpu, err = cpuTime(pid); err != nil {
		return u, fmt.Errorf("look at process: %w", err)
	}
	return u, nil
}

// calm is what the agent uses while nothing happens.
type calm struct {
	cpu            float64 // seconds a minute
	rss, anonymous []float64
}

// rests watches the agent for a time.
func (a *agent) rests(ctx context.Context, watch time.Duration) (calm, error) {
	var r calm
	if err := sleep(ctx, min(watch, 10*time.Second)); err != nil { // until it is at rest
		return r, err
	}
	begin := time.Now()
	before, err := a.use()
	if err != nil {
		return r, err
	}
	var after use
	for range idleSamples {
		if err := sleep(ctx, watch/idleSamples); err != nil {
			return r, err
		}
		if after, err = a.use(); err != nil {
			return r, err
		}
		r.rss, r.anonymous = append(r.rss, after.rss), append(r.anonymous, after.anonymous)
	}
	r.cpu = (after.cpu - before.cpu) * float64(time.Minute) / float64(time.Since(begin))
	return r, nil
}

// metric reads one of the agent's metrics, by its name and labels.
func (a *agent) metric(ctx context.Context, name string) (float64, error) {
	metrics, err := get(ctx, a.lab.path("run", "podkeeper.sock"), "/metrics")
	if err != nil {
		return 0, fmt.Errorf("read metrics: %w", err)
	}
	for line := range strings.Lines(string(metrics)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("read metrics: there is no %s", name)
}

// get asks a socket of the agent's for a path.
func get(ctx context.Context, socket, path string) ([]byte, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://podkeeper"+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return body, err
}

// countMounts is how many mounts the host has.
func countMounts() (int, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return 0, fmt.Errorf("count mounts: %w", err)
	}
	return strings.Count(string(table), "\n"), nil
}

// cpuTime is how many seconds of CPU a process has had. The figures in /proc are samples taken at each tick, and wrong for one
// that wakes often for a little.
func cpuTime(pid int) (float64, error) {
	const ofProcess = 2 // CPUCLOCK_SCHED, as clock_getcpuclockid(3) puts it together
	var spent unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|ofProcess), &spent); err != nil {
		return 0, fmt.Errorf("read CPU time: %w", err)
	}
	return time.Duration(spent.Nano()).Seconds(), nil
}

// shims answers how many shims of podkeeper's Pods there are, and their proportional set sizes together, in MiB.
func (l *lab) shims() (count int, pss float64, err error) {
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, 0, fmt.Errorf("list processes: %w", err)
	}
	for _, file := range commands {
		command, err := os.ReadFile(file)
		args := strings.Split(string(command), "\x00")
		if err != nil || !strings.Contains(args[0], "containerd-shim") || !slices.Contains(args, l.name) || !slices.Contains(args, l.socket()) {
			continue // has ended meanwhile, or is somebody else's
		}
		rollup, err := os.ReadFile(filepath.Join(filepath.Dir(file), "smaps_rollup"))
		if err != nil {
			return 0, 0, fmt.Errorf("look at shims: %w", err)
		}
		size, err := kibibytes(string(rollup), "Pss")
		if err != nil {
			return 0, 0, fmt.Errorf("look at shims: %w", err)
		}
		count++
		pss += size / 1024
	}
	return count, pss, nil
}

// kibibytes finds `KEY: N kB` in a file of /proc.
func kibibytes(text, key string) (float64, error) {
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(line, ":")
		if fields := strings.Fields(value); name == key && len(fields) > 0 {
			n, err := strconv.ParseFloat(fields[0], 64)
			if err != nil {
				return 0, fmt.Errorf("read %s: %w", key, err)
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("read %s: there is none", key)
}
