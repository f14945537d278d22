package cgroups

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// InUse says that a container uses more memory than it is to be limited to, and the kernel finds nothing to take back.
type InUse struct{ Usage uint64 } // in bytes

func (e *InUse) Error() string { return fmt.Sprintf("%d bytes of memory are in use", e.Usage) }

// Resized are the limits of a container that runs and has other resources than before: ContainerResources but for what stays, and
// with what does not apply any more.
func Resized(pod *v1.Pod, c *v1.Container, cfg Config) *specs.LinuxResources {
	r := ContainerResources(pod, c, cfg)
	out := &specs.LinuxResources{CPU: r.CPU, Memory: r.Memory}
	if cfg.Unified {
		out.Unified = noMemoryQoS()
		maps.Copy(out.Unified, r.Unified)
	}
	return out
}

// Squeeze has the kernel take back what a container, or with no id the whole Pod, has of memory above the limit that it gets, where
// that is below the one that it had. Nothing is killed: what cannot be taken back is an InUse, and nothing has changed. release ends the
// squeeze: got says whether the limits are set by now. A cgroup that is gone is an error that wraps fs.ErrNotExist.
//
// On v2 what ends a squeeze is told by the resources, never by the file: an agent that was killed may have left it squeezed.
func (t *Tree) Squeeze(pod *v1.Pod, id string, had, gets *specs.LinuxResources) (release func(got bool) error, err error) {
	if gets.Memory == nil || had.Memory != nil && *had.Memory.Limit <= *gets.Memory.Limit {
		return func(bool) error { return nil }, nil
	}
	limit := *gets.Memory.Limit
	dir := filepath.Join(t.controllerMount("memory"), t.path(pod, id))
	file, usage := filepath.Join(dir, memoryHigh), filepath.Join(dir, "memory.current")
	values := map[bool]string{false: throttledAt(had), true: throttledAt(gets)}
	if !t.cfg.Unified { // there it is the limit itself
		file, usage = filepath.Join(dir, "memory.limit_in_bytes"), filepath.Join(dir, "memory.usage_in_bytes")
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("squeeze container %s: %w", id, asGone(err))
		}
		values = map[bool]string{false: strings.TrimSpace(string(text)), true: strconv.FormatInt(limit, 10)}
	}
	release = func(got bool) error { return ignoreGone(write(file, values[got])) }
	err = write(file, strconv.FormatInt(limit, 10)) // on v1 it fails where too much is in use
	if err != nil && !errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("squeeze container %s: %w", id, asGone(err))
	}
	used, readErr := readNumber(usage)
	switch {
	case readErr != nil:
		return nil, errors.Join(fmt.Errorf("squeeze container %s: %w", id, asGone(readErr)), release(false))
	case err != nil || used > uint64(limit):
		return nil, errors.Join(&InUse{used}, release(false))
	}
	return release, nil
}

// throttledAt is what cgroup v2 is told of where these resources are throttled.
func throttledAt(r *specs.LinuxResources) string { return cmp.Or(r.Unified[memoryHigh], "max") }
