// Command vm runs a command as root in a Debian guest of its own: systemd as PID 1, cgroup v2 only, every capability,
// containerd, runc, crun, the CNI plugins and iptables. It is for tests that a container or a developer's machine
// cannot give a home to: setting oom_score_adj to -997, a unit under systemd, a reboot, a kernel panic.
//
//	hack/vm/run [-t SECONDS] [-in FILE_OR_DIR[:GUESTPATH]]... [-out GUESTPATH:HOSTPATH]...
//	            [-cold] [-selinux] [-reboots N] -- CMD...
//	hack/vm/run -install
//
// The command runs in /work; relative guest paths start there, and -in without a path goes there under its own name.
// Its output, standard output and error in one stream, comes out of standard output. There is no network but loopback
// and a dummy interface with 192.0.2.10/24 and a default route. Nothing that the command does outlives the run.
//
// With -reboots N the command is run again after each reboot, at most N times, in the same guest: BOOT is 1, 2, … in
// its environment. It asks for a reboot by exiting with status 100, or reboots the guest itself and waits for that to
// happen (systemctl reboot && sleep infinity; echo b >/proc/sysrq-trigger). Files that were synced are still there.
//
// With -selinux the guest has SELinux with Debian's policy and what that lacks of containers (guest/container.cil), permissive until
// somebody says setenforce 1; the host's own domains stay so.
//
// The exit status is the command's, or one of ours, and the last line on standard error says which:
//
//	240  the guest could not be built or started, or a file could not be brought in or out
//	241  this host cannot run a guest: a tool is missing, or no package mirror can be reached (a reason to skip)
//	242  the guest's kernel panicked
//	243  the command hung: the time limit (-t, 600 s) passed
//	244  the guest rebooted or powered off, and -reboots did not allow it
//
// The guest is built once and kept in $PODKEEPER_VM_CACHE (/var/cache/podkeeper-vm for root, else the user's cache
// folder), and again when guest/ or the kernel package of the host's Debian changes. It is booted once, and runs start
// from that saved state unless -cold says otherwise. KVM is used where it is seen to work, else qemu's emulation, which
// is 5 to 10 times slower: put many cases into one run. One guest runs at a time; others wait. Hosts: Debian on amd64.
//
// This program knows nothing of podkeeper.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	goruntime "runtime"
	"strings"
	"syscall"
	"time"
)

// Exit statuses of our own. They are far from what commands use.
const (
	exitBroken = 240
	exitUnable = 241
	exitPanic  = 242
	exitHang   = 243
	exitGone   = 244
)

// A request is what the command line asks for.
type request struct {
	limit   time.Duration // from the command's first start to its end, reboots included
	in      []transfer
	out     []transfer
	cold    bool // boot, instead of going on from the saved state
	selinux bool // with a policy, permissive
	reboots int  // how many are allowed
	argv    []string
	install bool
}

// init keeps main on the process's first thread: qemu dies with the thread that started it (Pdeathsig).
func init() { goruntime.LockOSThread() }

func main() {
	req, err := parse(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		os.Exit(exitBroken)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	status, err := serve(ctx, req)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("stopped: %w", context.Cause(ctx)) // what broke off because of that is not worth telling
	}
	stop()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "vm:", err)
		status = statusOf(err)
	case !req.install:
		fmt.Fprintf(os.Stderr, "vm: the command ended with status %d\n", status)
	}
	os.Exit(status)
}

// serve does what was asked, under the lock, and returns the command's exit status.
func serve(ctx context.Context, req request) (int, error) {
	if goruntime.GOARCH != "amd64" {
		return 0, unable{errors.New("only amd64 hosts can run the guest so far")}
	}
	if req.install {
		return 0, install(ctx)
	}
	cache, err := openCache(ctx)
	if err != nil {
		return 0, err
	}
	defer cache.close()
	g, err := cache.guest(ctx, req.selinux)
	if err != nil {
		return 0, err
	}
	return g.run(ctx, req, os.Stdout)
}

// statusOf maps an error to the exit status that tells it apart.
func statusOf(err error) int {
	var unable unable
	switch {
	case errors.As(err, &unable):
		return exitUnable
	case errors.Is(err, errPanic):
		return exitPanic
	case errors.Is(err, errHang):
		return exitHang
	case errors.Is(err, errGone):
		return exitGone
	}
	return exitBroken
}

// parse reads the command line; usage goes to w.
func parse(args []string, w io.Writer) (request, error) {
	var req request
	flags := flag.NewFlagSet("vm", flag.ContinueOnError)
	flags.SetOutput(w)
	flags.Usage = func() {
		fmt.Fprintln(w, "usage: run [flags] -- CMD...   (what it does and returns: the comment in main.go)")
		flags.PrintDefaults()
	}
	seconds := flags.Int("t", 600, "time limit of the command in `seconds`")
	flags.Func("in", "`FILE_OR_DIR[:GUESTPATH]` to copy into the guest; repeatable", func(s string) error {
		t, err := parseIn(s)
		req.in = append(req.in, t)
		return err
	})
	flags.Func("out", "`GUESTPATH:HOSTPATH` to copy out of it when the command has ended; repeatable", func(s string) error {
		t, err := parseOut(s)
		req.out = append(req.out, t)
		return err
	})
	flags.BoolVar(&req.cold, "cold", false, "boot the guest instead of starting from its saved state")
	flags.BoolVar(&req.selinux, "selinux", false, "have SELinux in it, permissive")
	flags.IntVar(&req.reboots, "reboots", 0, "how many `times` the guest may reboot")
	flags.BoolVar(&req.install, "install", false, "install the Debian packages that this needs on the host, and do nothing else")
	if err := flags.Parse(args); err != nil {
		return request{}, fmt.Errorf("read command line: %w", err)
	}
	req.limit = time.Duration(*seconds) * time.Second
	req.argv = flags.Args()
	if len(req.argv) == 0 && !req.install {
		return request{}, errors.New("no command given: run [flags] -- CMD")
	}
	if req.limit <= 0 || req.reboots < 0 {
		return request{}, errors.New("-t must be at least 1, -reboots at least 0")
	}
	return req, nil
}

// script is the shell script that stands for the command in the guest.
func (r request) script() string {
	var b strings.Builder
	b.WriteString("exec")
	for _, arg := range r.argv {
		b.WriteString(" " + quote(arg))
	}
	b.WriteString("\n")
	return b.String()
}

// quote makes one shell word of s.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
