package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

// purgeWith runs podkeeper purge with the flags of an agent.
func purgeWith(flags []string, more ...string) (string, error) {
	args := slices.Concat([]string{"purge"}, flags, more)
	out, err := exec.Command(lab.podkeeper, args...).CombinedOutput()
	return string(out), err
}

// TestPurgeLeavesNothing ends Pods, one with a record that nobody can read, and removes everything but what is wanted, and
// what is mounted.
func TestPurgeLeavesNothing(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("web.yaml", simple("web", forever)+"---\n"+simple("other", forever))
	web := n.awaitReady("web")
	pid := n.pid(web, web.Spec.Containers[0].Name)
	bridge := regexp.MustCompile(`on (\S+)\)"`).FindStringSubmatch(n.log.String())
	if _, err := netlink.LinkByName(bridge[1]); err != nil {
		t.Fatal(err)
	}
	other := n.awaitReady("other")
	flags := n.agent.Args[2:]
	if out, err := purgeWith(flags, "--yes"); err == nil || !strings.Contains(out, "another agent") {
		t.Errorf("beside an agent: %v, %s", err, out)
	}
	n.stopAgent()
	n.agent = nil // for down
	if out, err := purgeWith(flags); err == nil || !strings.Contains(out, "give --yes") {
		t.Errorf("without --yes: %v, %s", err, out)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Errorf("a Pod has ended although nobody wanted it: %v", err)
	}
	record := n.path("root", "pods", string(other.UID), "pod.json")
	if err := os.WriteFile(record, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	mounted := n.path("root", "mounted")
	if err := errors.Join(os.Mkdir(mounted, 0o755), syscall.Mount("none", mounted, "tmpfs", 0, ""), os.WriteFile(filepath.Join(mounted, "dear"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	out, err := purgeWith(flags, "--yes")
	if err == nil || !strings.Contains(out, mounted+" is mounted in it") {
		t.Errorf("with a mount: %v, %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(mounted, "dear")); err != nil {
		t.Errorf("what is mounted: %v", err)
	}
	if err := syscall.Unmount(mounted, 0); err != nil {
		t.Fatal(err)
	}
	if out, err := purgeWith(flags, "--yes"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if left, err := os.ReadDir(n.path("root")); err != nil || len(left) != 1 || left[0].Name() != "mounted" {
		t.Errorf("beside what podkeeper has not made: %v, %v", left, err)
	}
	if err := os.Remove(mounted); err != nil {
		t.Fatal(err)
	}
	if out, err := purgeWith(flags, "--yes"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := errors.Join(n.leftovers(), n.nothingIn("root", "run", "logs", "containers")); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d of web: %v", pid, err)
	}
	if _, err := os.Stat(n.path("manifests", "web.yaml")); err != nil {
		t.Errorf("the manifest: %v", err)
	}
	c, ctx, err := n.ctr()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if names, err := c.NamespaceService().List(context.WithoutCancel(ctx)); err != nil || slices.Contains(names, n.namespace) {
		t.Errorf("containerd has the namespaces %q, %v", names, err)
	}
	if _, err := netlink.LinkByName(bridge[1]); !errors.As(err, &netlink.LinkNotFoundError{}) {
		t.Errorf("the bridge %s: %v", bridge[1], err)
	}
}

// nothingIn says which of a node's folders are there.
func (n *node) nothingIn(dirs ...string) error {
	var errs []error
	for _, dir := range dirs {
		if entries, err := os.ReadDir(n.path(dir)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("%s is there: %q, %w", dir, entries, err))
		}
	}
	return errors.Join(errs...)
}
