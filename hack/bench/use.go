package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// use is what the agent's process has used.
type use struct {
	rss, anonymous float64 // MiB
	cpu            float64 // seconds since it started
}

// use reads /proc.
func (a *agent) use() (use, error) {
	var u use
	if a.broken != nil {
		return u, a.broken
	}
	dir := filepath.Join("/proc", strconv.Itoa(a.cmd.Process.Pid))
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return u, fmt.Errorf("look at the agent's process: %w", err)
	}
	for key, into := range map[string]*float64{"VmRSS": &u.rss, "RssAnon": &u.anonymous} {
		kib, err := kibibytes(string(status), key)
		if err != nil {
			return u, fmt.Errorf("look at the agent's process: %w", err)
		}
		*into = kib / 1024
	}
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return u, fmt.Errorf("look at the agent's process: %w", err)
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(after)
	for _, ticks := range fields[11:13] { // utime, stime: fields 14 and 15 of proc_pid_stat(5)
		n, err := strconv.ParseFloat(ticks, 64)
		if err != nil {
			return u, fmt.Errorf("look at the agent's process: %w", err)
		}
		u.cpu += n / 100
	}
	return u, nil
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
