package cgroups

import (
	"bytes"
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

// Squeeze has the kernel take back what a container has of memory above a limit in bytes, without killing anything. Where it cannot,
// the error is an InUse, and nothing has changed. release ends the squeeze; where the limit was not kept, that is as it was before.
// A cgroup that is gone is an error that wraps fs.ErrNotExist.
func (t *Tree) Squeeze(pod *v1.Pod, id string, limit int64) (release func(kept bool) error, err error) {
	file, usage := "memory.limit_in_bytes", "memory.usage_in_bytes"
	if t.cfg.Unified {
		file, usage = "memory.high", "memory.current"
	}
	dir := filepath.Join(t.controllerMount("memory"), t.path(pod, id))
	file, usage = filepath.Join(dir, file), filepath.Join(dir, usage)
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("squeeze container %s: %w", id, asGone(err))
	}
	restore := func() error { return ignoreGone(write(file, strings.TrimSpace(string(text)))) }
	err = write(file, strconv.FormatInt(limit, 10)) // on v1 it fails where too much is in use
	if err != nil && !errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("squeeze container %s: %w", id, asGone(err))
	}
	squeezed, _ := os.ReadFile(file)
	used, readErr := readNumber(usage)
	switch {
	case readErr != nil:
		return nil, errors.Join(fmt.Errorf("squeeze container %s: %w", id, asGone(readErr)), restore())
	case err != nil || used > uint64(limit):
		return nil, errors.Join(&InUse{used}, restore())
	}
	return func(kept bool) error {
		if kept && !t.cfg.Unified { // there it is the limit itself
			return nil
		}
		if now, err := os.ReadFile(file); kept && err == nil && !bytes.Equal(now, squeezed) {
			return nil // it was told meanwhile where to be throttled
		}
		return restore()
	}, nil
}
