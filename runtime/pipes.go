package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// pipePairs is how many instances of a container may have output under way at once: one that has ended, whose last output is
// still to be carried, does not hold up the next.
const pipePairs = 2

// Pipes are the named pipes that the output of an instance of a container passes through on its way to the log file. The
// instance after the next has them, too.
func Pipes(sandboxDir, container string, attempt int) (stdout, stderr string) {
	base := filepath.Join(sandboxDir, pipesDir, fmt.Sprintf("%s.%d", container, attempt%pipePairs))
	return base + ".out", base + ".err"
}

// InputPipe is the named pipe that an instance of a container with stdin reads from. The shim holds it open: while nobody writes
// nothing comes, and no end until the shim is told to close it.
func InputPipe(sandboxDir, container string, attempt int) string {
	return filepath.Join(sandboxDir, pipesDir, fmt.Sprintf("%s.%d.in", container, attempt%pipePairs))
}

// OutputPipes are those for the output of all instances of a container.
func OutputPipes(sandboxDir string, c *v1.Container) []string {
	var pipes []string
	for attempt := range pipePairs {
		stdout, stderr := Pipes(sandboxDir, c.Name, attempt)
		pipes = append(pipes, stdout, stderr)
	}
	return pipes
}

// AllPipes are those of all instances of a container.
func AllPipes(sandboxDir string, c *v1.Container) []string {
	pipes := OutputPipes(sandboxDir, c)
	for attempt := range pipePairs {
		if c.Stdin {
			pipes = append(pipes, InputPipe(sandboxDir, c.Name, attempt))
		}
	}
	return pipes
}

// MakePipes makes pipes in a sandbox's folder. It leaves pipes alone that are there: they may hold output. What else is in their place is replaced.
func MakePipes(dir string, pipes []string) error {
	if err := os.MkdirAll(filepath.Join(dir, pipesDir), 0o700); err != nil {
		return fmt.Errorf("create pipes: %w", err)
	}
	for _, pipe := range pipes {
		if err := makePipe(pipe); err != nil {
			return err
		}
	}
	return nil
}

func makePipe(path string) error {
	info, err := os.Lstat(path)
	if err == nil && info.Mode().Type() == fs.ModeNamedPipe {
		return nil
	}
	if err == nil {
		err = os.RemoveAll(path)
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = syscall.Mkfifo(path, 0o600)
	}
	if err != nil {
		return fmt.Errorf("create pipe %s: %w", path, err)
	}
	return nil
}

// openPipe opens a pipe to read and to write, so that it never reports the end while its writers come and go. Anything else
// at its path is an error, and is not touched: a symlink there would lead to any file of the host.
func openPipe(path string) (*os.File, error) {
	handle, err := pipeHandle(path)
	if err != nil {
		return nil, err
	}
	defer handle.Close()
	f, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(int(handle.Fd())), os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open pipe %s: %w", path, err)
	}
	return f, nil
}

// checkPipes fails unless these are pipes. The shim opens them by their path, following symlinks and making what is missing.
func checkPipes(paths ...string) error {
	for _, path := range paths {
		handle, err := pipeHandle(path)
		if err != nil {
			return err
		}
		handle.Close()
	}
	return nil
}

// pipeHandle is a pipe that is not open for anything yet.
func pipeHandle(path string) (*os.File, error) {
	handle, err := os.OpenFile(path, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open pipe: %w", err)
	}
	info, err := handle.Stat()
	if err == nil && info.Mode().Type() != fs.ModeNamedPipe {
		err = errors.New("it is no pipe")
	}
	if err != nil {
		handle.Close()
		return nil, fmt.Errorf("open pipe %s: %w", path, err)
	}
	return handle, nil
}
