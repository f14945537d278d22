package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	goruntime "runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// MemoryCapacity is the node's memory in bytes, as the kernel counts it (MemTotal).
func MemoryCapacity() (int64, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, fmt.Errorf("read memory capacity: %w", err)
	}
	return int64(info.Totalram * uint64(info.Unit)), nil
}

// SwapCapacity is the node's swap in bytes.
func SwapCapacity() (int64, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, fmt.Errorf("read swap capacity: %w", err)
	}
	return int64(info.Totalswap * uint64(info.Unit)), nil
}

// CPUs counts the node's CPUs, not those this process may use.
func CPUs() (int, error) {
	b, err := os.ReadFile("/sys/devices/system/cpu/online")
	if errors.Is(err, fs.ErrNotExist) {
		return goruntime.NumCPU(), nil
	}
	if err != nil {
		return 0, fmt.Errorf("read online cpus: %w", err)
	}
	count := 0
	for span := range strings.SplitSeq(strings.TrimSpace(string(b)), ",") {
		first, last, ok := strings.Cut(span, "-")
		if !ok {
			last = first
		}
		from, err := strconv.Atoi(first)
		if err != nil {
			return 0, fmt.Errorf("parse online cpus %q: %w", b, err)
		}
		to, err := strconv.Atoi(last)
		if err != nil {
			return 0, fmt.Errorf("parse online cpus %q: %w", b, err)
		}
		count += to - from + 1
	}
	return count, nil
}
