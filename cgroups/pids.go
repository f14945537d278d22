package cgroups

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Tasks counts how many processes and threads there are on the node, and how many there may be: the lower of kernel.pid_max and
// kernel.threads-max, as the kubelet has it (kubernetes/kubernetes pkg/kubelet/stats/pidlimit).
func Tasks() (running, most int64, err error) {
	for _, name := range []string{"pid_max", "threads-max"} {
		limit, err := readNumber("/proc/sys/kernel/" + name)
		if err != nil {
			return 0, 0, fmt.Errorf("read limit of tasks: %w", err)
		}
		if most == 0 || int64(limit) < most {
			most = int64(limit)
		}
	}
	load, err := os.ReadFile("/proc/loadavg") // sysinfo(2) counts to 65535
	if err != nil {
		return 0, 0, fmt.Errorf("count tasks: %w", err)
	}
	running, err = countTasks(string(load))
	return running, most, err
}

// countTasks reads the number after the slash of 1.36 3.49 4.53 2/3518 3715089.
func countTasks(load string) (int64, error) {
	if fields := strings.Fields(load); len(fields) == 5 {
		if _, all, ok := strings.Cut(fields[3], "/"); ok {
			if count, err := strconv.ParseInt(all, 10, 64); err == nil {
				return count, nil
			}
		}
	}
	return 0, fmt.Errorf("count tasks: /proc/loadavg says %q", load)
}
