package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// recordFile is the name of a sandbox's record in its folder.
const recordFile = "sandbox.json"

// record is how a process is known again by a later agent. A pid alone is given to others in time.
type record struct {
	ID           string `json:"id"`
	PID          int    `json:"pid"`
	StartTime    uint64 `json:"startTime"` // field 22 of /proc/<pid>/stat: ticks since the boot
	BootID       string `json:"bootID"`
	PIDNamespace string `json:"pidNamespace"` // in which PID is one
	Own          []kind `json:"own"`          // namespaces that are the sandbox's
}

// host is by what records of this boot and PID namespace are told from others.
type host struct{ bootID, pidNamespace string }

func readHost() (host, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return host{}, fmt.Errorf("read boot id: %w", err)
	}
	namespace, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return host{}, fmt.Errorf("read pid namespace: %w", err)
	}
	return host{strings.TrimSpace(string(boot)), namespace}, nil
}

// readRecord reads the record in a folder. None is none, and one that cannot be understood is none either: what it was
// about ends with its Pod's cgroup.
func readRecord(dir string) (record, bool, error) {
	var rec record
	if dir == "" {
		return rec, false, nil
	}
	content, err := os.ReadFile(filepath.Join(dir, recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return rec, false, nil
	}
	if err != nil {
		return rec, false, fmt.Errorf("read sandbox: %w", err)
	}
	return rec, json.Unmarshal(content, &rec) == nil && rec.PID > 0, nil
}

// write replaces the record in a folder in one step. It need not survive the host, for the process does not either.
func (r record) write(dir string) error {
	content, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode sandbox: %w", err)
	}
	file := filepath.Join(dir, recordFile)
	if err := os.WriteFile(file+".tmp", content, 0o600); err != nil {
		return fmt.Errorf("write sandbox: %w", err)
	}
	if err := os.Rename(file+".tmp", file); err != nil {
		return fmt.Errorf("write sandbox: %w", err)
	}
	return nil
}

// removeRecord removes the record from a folder. What is gone is no error.
func removeRecord(dir string) error {
	if dir == "" {
		return nil
	}
	for _, name := range []string{recordFile, recordFile + ".tmp"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove sandbox: %w", err)
		}
	}
	return nil
}

// startTime reads when a process began, in ticks since the boot.
func startTime(pid int) (uint64, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("look at process %d: %w", pid, err)
	}
	// The name, in parentheses, may hold spaces; the start time is field 22, the twentieth after the name.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("look at process %d: short stat", pid)
	}
	ticks, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("look at process %d: %w", pid, err)
	}
	return ticks, nil
}
