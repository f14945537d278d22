package main

import (
	"context"
	"crypto/sha256"
	_ "embed" // the recipe
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// service is what an image is made of. Its user, command and signal are those of the images that people pull.
type service struct {
	Name       string
	Packages   []string // with what they depend on
	Account    string   // the name of user and group 999
	User       string
	Entrypoint []string
	Cmd        []string
	StopSignal string
	Setup      string // a shell script, with the image's root as $1
}

var services = []service{
	{
		Name: "nginx", Packages: []string{"nginx"}, Account: "nginx", User: "999",
		Cmd: []string{"nginx", "-e", "stderr", "-g", "daemon off;"}, StopSignal: "SIGQUIT",
	},
	{
		Name: "postgres", Packages: []string{"postgresql"}, Account: "postgres",
		Cmd: []string{"postgres"}, StopSignal: "SIGINT",
		// In place of Debian's wrappers, which are for several versions beside each other and want a perl.
		Setup: `for f in "$1"/usr/lib/postgresql/*/bin/*; do ln -sf "${f#"$1"}" "$1/usr/bin/"; done`,
	},
	{
		Name: "redis", Packages: []string{"redis-server", "redis-tools"}, Account: "redis",
		Entrypoint: []string{"redis-server"},
	},
}

// base is what every image has: a shell and its tools.
var base = []string{"base-files", "dash", "coreutils"}

// left are patterns of files that no service needs to run, and kept those among them that it does: dpkg's path-exclude and
// path-include. Postgres does without its compiler (llvmjit).
var (
	left = []string{"/usr/share/*", "/usr/lib/*/perl*", "/usr/lib/*/libperl*", "/usr/bin/perl*", "/usr/lib/*/libLLVM*", "/usr/lib/*/libz3*",
		"/usr/lib/postgresql/*/lib/llvmjit*", "/usr/lib/postgresql/*/lib/bitcode/*", "/usr/lib/*/gconv/*"}
	kept = []string{"/usr/share/nginx/*", "/usr/share/postgresql/*", "/usr/share/zoneinfo/*"}
)

// accounts are set up where no package's script runs, for packages are only unpacked.
const accounts = `
cat >"$1/etc/passwd" <<END
root:x:0:0:root:/root:/bin/sh
ACCOUNT:x:999:999::/nonexistent:/bin/sh
END
printf 'root:x:0:\nACCOUNT:x:999:\n' >"$1/etc/group"
mkdir -p "$1/tmp" "$1/run" "$1/proc" "$1/sys" "$1/dev"
chmod 1777 "$1/tmp"
rm -rf "$1/var/lib/apt" "$1/var/lib/dpkg" "$1/var/cache/apt"
`

// unable is an error that means: not on this host, or not now.
type unable struct{ error }

func (u unable) Unwrap() error { return u.error }

//go:embed debian.go
var recipe string

// key is a hash of the recipe, which is this file, and of the packages' versions.
func (s service) key(versions []string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %q", s.Name, recipe, versions))
	return fmt.Sprintf("%x", sum[:8])
}

// versions are those of all services' packages, and of what these depend on directly, as the host's lists have them.
func versions(ctx context.Context) ([]string, error) {
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		return nil, unable{errors.New("mmdebstrap is not installed")}
	}
	named := slices.Clone(base)
	for _, s := range services {
		named = append(named, s.Packages...)
	}
	found, err := listed(ctx, named)
	if err != nil { // no package lists on a fresh host
		if _, err := output(ctx, "apt-get", "update", "-q"); err != nil {
			return nil, unable{fmt.Errorf("no package mirror can be reached: %w", err)}
		}
		if found, err = listed(ctx, named); err != nil {
			return nil, unable{fmt.Errorf("this host's package sources lack a service: %w", err)}
		}
	}
	return found, nil
}

func listed(ctx context.Context, named []string) ([]string, error) {
	depends, err := output(ctx, "apt-cache", append([]string{"depends", "--important"}, named...)...)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(depends) {
		if dep, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: "); ok && !strings.HasPrefix(dep, "<") {
			named = append(named, dep)
		}
	}
	slices.Sort(named)
	shown, err := output(ctx, "apt-cache", append([]string{"show", "--no-all-versions"}, slices.Compact(named)...)...)
	if err != nil {
		return nil, err
	}
	var found []string
	for line := range strings.Lines(shown) {
		if strings.HasPrefix(line, "Package: ") || strings.HasPrefix(line, "Version: ") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found, nil
}

// files writes a tar of the image's files. work is a folder for what is not kept.
func (s service) files(ctx context.Context, work, to string) error {
	if os.Geteuid() != 0 {
		return unable{errors.New("it needs root")}
	}
	sources, release, err := hostSources(ctx, work)
	if err != nil {
		return err
	}
	args := []string{"--mount", "--pid", "--fork", "--kill-child", "--mount-proc", // what it leaves behind dies with it
		"mmdebstrap", "--quiet", "--mode=root", "--variant=extract", "--include=" + strings.Join(slices.Concat(base, s.Packages), ",")}
	for _, pattern := range left {
		args = append(args, "--dpkgopt=path-exclude="+pattern)
	}
	for _, pattern := range kept {
		args = append(args, "--dpkgopt=path-include="+pattern)
	}
	args = append(args, "--extract-hook="+strings.ReplaceAll(accounts, "ACCOUNT", s.Account)+s.Setup, release, to, "-")
	cmd := quiet(exec.CommandContext(ctx, "unshare", args...))
	cmd.Stdin = strings.NewReader(sources)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("unpack packages: %w: %s", err, out)
	}
	return nil
}

// hostSources are lines for apt: the host's own sources of Debian, whatever they are, and the release that it has.
func hostSources(ctx context.Context, work string) (lines, release string, err error) {
	targets, err := output(ctx, "apt-get", "indextargets", "--format", "$(ORIGIN)|$(IDENTIFIER)|$(REPO_URI) $(RELEASE) $(COMPONENT)")
	if err != nil {
		return "", "", err
	}
	seen := map[string]bool{}
	for line := range strings.Lines(targets) {
		if source, ok := strings.CutPrefix(line, "Debian|Packages|"); ok && !seen[source] {
			seen[source] = true
			lines += "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] " + source
		}
	}
	if lines == "" {
		return "", "", unable{errors.New("this host has no package sources of Debian")}
	}
	if release, err = output(ctx, "sh", "-c", ". /etc/os-release && printf %s $VERSION_CODENAME"); err != nil {
		return "", "", err
	}
	// What fails after this is a fault; this is a host without a mirror.
	download := fmt.Sprintf("cd %q && { apt-get download -q %[2]s || { apt-get update -q && apt-get download -q %[2]s; }; }", work, base[0])
	if _, err := output(ctx, "sh", "-c", download); err != nil {
		return "", "", unable{fmt.Errorf("no package mirror can be reached: %w", err)}
	}
	return lines, release, nil
}

// output runs a command and answers what it prints.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := quiet(exec.CommandContext(ctx, name, args...))
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return "", fmt.Errorf("run %s: %w: %s", name, err, strings.TrimSpace(string(exit.Stderr)))
		}
		return "", fmt.Errorf("run %s: %w", name, err)
	}
	return string(out), nil
}

// quiet makes a command die with us, and not wait for those who keep its output open.
func quiet(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second
	return cmd
}
