package main

import (
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

//go:embed guest
var recipe embed.FS

const (
	lockLimit    = time.Hour
	buildLimit   = 45 * time.Minute
	installLimit = 15 * time.Minute
	toolLimit    = 2 * time.Minute // for a tool that is done in a second on a quiet host
)

// hostPackages are what a Debian host needs, and hostTools how we see that it has them.
func hostPackages() []string {
	return strings.Fields("qemu-system-x86 seabios ipxe-qemu qemu-utils mmdebstrap e2fsprogs cpio kmod busybox-static")
}

func hostTools() []string {
	return strings.Fields("qemu-system-x86_64 qemu-img mmdebstrap mke2fs cpio modprobe depmod unshare apt-get dpkg gzip")
}

// unable is an error that means: not on this host, or not now. A caller may skip.
type unable struct{ error }

func (u unable) Unwrap() error { return u.error }

// A cache is the folder that keeps built guests between runs, held under a lock.
type cache struct {
	dir  string
	lock *os.File
}

// openCache waits for the lock and clears away what a run that was killed has left.
func openCache(ctx context.Context) (*cache, error) {
	dir, err := cacheDir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make cache folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	c := &cache{dir: dir, lock: lock}
	if err := c.await(ctx); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	if err := c.clear("run", "build-*"); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return c, nil
}

func cacheDir() (string, error) {
	if dir := os.Getenv("PODKEEPER_VM_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	if os.Getenv("XDG_CACHE_HOME") == "" && os.Geteuid() == 0 {
		return "/var/cache/podkeeper-vm", nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache folder: %w", err)
	}
	return filepath.Join(dir, "podkeeper-vm"), nil
}

// await takes the lock, which lives as long as this process has the file open.
func (c *cache) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lockLimit)
	defer cancel()
	for told := false; ; told = true {
		err := syscall.Flock(int(c.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("lock cache: %w", err)
		}
		if !told {
			fmt.Fprintln(os.Stderr, "vm: waiting for another run to end")
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for another run to end: %w", ctx.Err())
		case <-time.After(time.Second):
		}
	}
}

// clear removes what matches the patterns in the cache.
func (c *cache) clear(patterns ...string) error {
	for _, pattern := range patterns {
		found, err := filepath.Glob(filepath.Join(c.dir, pattern))
		if err != nil {
			return fmt.Errorf("look for leftovers: %w", err)
		}
		for _, path := range found {
			if err := os.RemoveAll(path); err != nil {
				return fmt.Errorf("clear leftovers: %w", err)
			}
		}
	}
	return nil
}

func (c *cache) close() {
	if err := errors.Join(c.clear("run", "build-*"), c.lock.Close()); err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
	}
}

// guest returns the built guest, after building it where its inputs have changed.
func (c *cache) guest(ctx context.Context, selinux bool) (*guest, error) {
	for _, tool := range hostTools() {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, unable{fmt.Errorf("%s is not installed: run hack/vm/run -install", tool)}
		}
	}
	dir, _, err := c.place(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		// The host's package lists may be older than what the mirror still has.
		if _, err := tool(ctx, "apt-get", "update", "-q"); err != nil {
			return nil, unable{fmt.Errorf("no package mirror can be reached: %w", err)}
		}
		var kernel string
		if dir, kernel, err = c.place(ctx); err != nil {
			return nil, err
		}
		if err := c.build(ctx, kernel, dir); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, fmt.Errorf("look for guest: %w", err)
	}
	return newGuest(ctx, dir, filepath.Join(c.dir, "run"), selinux)
}

// place is the folder of the guest that today's inputs make, and its kernel package.
func (c *cache) place(ctx context.Context) (dir, kernel string, err error) {
	kernel, version, err := kernelPackage(ctx)
	if err != nil {
		return "", "", err
	}
	key, err := recipeKey(kernel, version)
	if err != nil {
		return "", "", err
	}
	return filepath.Join(c.dir, "guest-"+key), kernel, nil
}

// kernelPackage names the package that Debian's newest cloud kernel is in, and its version, as the host's lists say.
func kernelPackage(ctx context.Context) (name, version string, err error) {
	show := func() ([]byte, error) {
		return tool(ctx, "apt-cache", "show", "--no-all-versions", "linux-image-cloud-amd64")
	}
	out, err := show()
	if err != nil { // no package lists on a fresh host or in a container image
		if _, err := tool(ctx, "apt-get", "update", "-q"); err != nil {
			return "", "", unable{fmt.Errorf("no package mirror can be reached: %w", err)}
		}
		if out, err = show(); err != nil {
			return "", "", unable{fmt.Errorf("this host's package sources have no Debian cloud kernel: %w", err)}
		}
	}
	for line := range strings.Lines(string(out)) {
		if rest, ok := strings.CutPrefix(line, "Depends: "); ok {
			name, _, _ = strings.Cut(strings.TrimSpace(rest), " ")
		}
		if rest, ok := strings.CutPrefix(line, "Version: "); ok {
			version = strings.TrimSpace(rest)
		}
	}
	if name == "" || version == "" {
		return "", "", errors.New("read kernel package: it names no version or no image")
	}
	return name, version, nil
}

// recipeKey is a hash of all that a guest is made from.
func recipeKey(inputs ...string) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%q", inputs)
	err := fs.WalkDir(recipe, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := recipe.ReadFile(path)
		fmt.Fprintf(h, "%q %q", path, content)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read recipe: %w", err)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8]), nil
}

// build makes the guest's folder. Only the latest guest is kept.
func (c *cache) build(ctx context.Context, kernel, dir string) error {
	if os.Geteuid() != 0 {
		return unable{errors.New("building the guest needs root")}
	}
	fmt.Fprintln(os.Stderr, "vm: building the guest, which takes some minutes")
	ctx, cancel := context.WithTimeout(ctx, buildLimit)
	defer cancel()
	work, err := os.MkdirTemp(c.dir, "build-")
	if err != nil {
		return fmt.Errorf("make build folder: %w", err)
	}
	if err := os.CopyFS(filepath.Join(work, "recipe"), recipe); err != nil {
		return fmt.Errorf("write recipe: %w", err)
	}
	made := filepath.Join(work, "guest")
	if err := os.Mkdir(made, 0o755); err != nil {
		return fmt.Errorf("make build folder: %w", err)
	}
	// The first thing that needs the network: what fails later is a fault, this is a host without a mirror.
	download := quiet(exec.CommandContext(ctx, "apt-get", "download", "-q", kernel))
	download.Dir = made
	if out, err := download.CombinedOutput(); err != nil {
		return unable{fmt.Errorf("no package mirror can be reached: %w: %s", err, lastLine(out))}
	}
	script := quiet(exec.CommandContext(ctx, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
		"sh", filepath.Join(work, "recipe", "guest", "build"), made, kernel))
	script.Stdout, script.Stderr = os.Stderr, os.Stderr
	if err := script.Run(); err != nil {
		return fmt.Errorf("build guest: %w", err)
	}
	if err := c.clear("guest-*"); err != nil {
		return err
	}
	if err := os.Rename(made, dir); err != nil {
		return fmt.Errorf("keep guest: %w", err)
	}
	return nil
}

// install puts the packages on the host that we need.
func install(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, installLimit)
	defer cancel()
	for _, args := range [][]string{
		{"update", "-q"},
		append([]string{"install", "-q", "-y", "--no-install-recommends"}, hostPackages()...),
	} {
		cmd := quiet(exec.CommandContext(ctx, "apt-get", args...))
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return unable{fmt.Errorf("cannot install host packages: apt-get %s: %w: %s", args[0], err, lastLine(out))}
		}
	}
	return nil
}

// tool runs a short command on the host and returns its output.
func tool(ctx context.Context, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, toolLimit)
	defer cancel()
	out, err := quiet(exec.CommandContext(ctx, name, args...)).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("run %s: %w: %s", name, err, lastLine(out))
	}
	return out, nil
}

// quiet makes a command die with us, and not wait for those who keep its output open.
func quiet(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

func lastLine(out []byte) string {
	text := strings.TrimSpace(string(out))
	return text[strings.LastIndex(text, "\n")+1:]
}
