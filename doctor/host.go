package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// servicePath is the PATH that systemd gives to services, and so to containerd and the agent.
const servicePath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// patience is how long one program, or containerd, may take to answer.
const patience = 5 * time.Second

// Host is where the checks look.
type Host struct {
	Root    string // the folder that / is
	Path    string // the folders of programs, as $PATH has them
	Statfs  func(path string, to *unix.Statfs_t) error
	Inotify func() error // takes as much as an agent does, and gives it back
}

// This is the host that this process runs on.
func This() Host {
	return Host{Root: "/", Path: os.Getenv("PATH"), Statfs: unix.Statfs, Inotify: tryInotify}
}

// at is where a path of the host is found.
func (h Host) at(path string) string { return filepath.Join(h.Root, path) }

func (h Host) exists(path string) bool {
	_, err := os.Stat(h.at(path))
	return err == nil
}

// read reads a small file, without the space around its content.
func (h Host) read(path string) (string, error) {
	b, err := os.ReadFile(h.at(path))
	return strings.TrimSpace(string(b)), err
}

// status is a field of a process's status.
func (h Host) status(pid, field string) (string, error) {
	file := filepath.Join("/proc", pid, "status")
	text, err := h.read(file)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("%s has no field %s", file, field)
}

// readOnly says whether a path is on a file system that is mounted read-only.
func (h Host) readOnly(path string) (bool, error) {
	var st unix.Statfs_t
	err := h.Statfs(h.at(path), &st)
	return st.Flags&unix.ST_RDONLY != 0, err
}

// program finds an executable file in a list of folders, "" where there is none. A name with a slash is a path already.
func (h Host) program(folders, name string) string {
	if strings.Contains(name, "/") {
		folders, name = filepath.Dir(name), filepath.Base(name)
	}
	for _, folder := range filepath.SplitList(folders) {
		path := filepath.Join(folder, name)
		if !filepath.IsAbs(path) {
			continue
		}
		if info, err := os.Stat(h.at(path)); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// run runs a program of the host and answers what it says.
func (h Host) run(ctx context.Context, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, h.at(program), args...).Output()
	if ctx.Err() != nil {
		return "", fmt.Errorf("%s: no answer: %w", strings.Join(args, " "), ctx.Err())
	}
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		err = fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, cmp.Or(strings.TrimSpace(string(failed.Stderr)), "it does not say why"))
	}
	return strings.TrimSpace(string(out)), err
}

// install says how a package is installed.
func (h Host) install(pkg string) string {
	if h.program(servicePath, "apt-get") != "" {
		return "apt-get install " + pkg
	}
	return "install " + pkg
}

// isRoot says whether this process may look at everything.
func (h Host) isRoot() bool { return h.root().Level == OK }
