package cgroups

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// enter starts a process where a placement says, and ends it with the test.
func enter(t *testing.T, place Placement) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if place.Dir != "" {
		dir, err := os.Open(place.Dir)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for _, file := range place.Tasks {
		if err := write(file, strconv.Itoa(cmd.Process.Pid)); err != nil {
			t.Fatal(err)
		}
	}
	if place.Adopt != nil {
		if err := place.Adopt(cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
	}
	return cmd
}

// in are the cgroups of a process, of each hierarchy that is there.
func in(t *testing.T, tree *Tree, pid int) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cgroup"))
	if err != nil {
		t.Fatal(err)
	}
	var groups []string
	for line := range strings.Lines(string(b)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if fields[1] == "" && !tree.cfg.Unified && tree.Version() != "hybrid" {
			continue // v2's hierarchy is there, but mounted nowhere
		}
		if name := strings.TrimPrefix(fields[1], "name="); name != "" {
			if _, err := os.Stat(filepath.Join(tree.mount, name)); err != nil {
				continue // somebody has mounted it elsewhere
			}
		}
		groups = append(groups, fields[2])
	}
	return groups
}

func TestASandboxHasACgroupOfItsPod(t *testing.T) {
	tree := open(t)
	p := burstable("s", "250m")
	if err := tree.Ensure(p); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time, after a start that was cut off
		place, err := tree.Place(p, "box")
		if err != nil {
			t.Fatal(err)
		}
		group := tree.path(p, "box")
		file, value := "cpu.shares", "2"
		if tree.cfg.Unified {
			file, value = "cpu.weight", "1"
		}
		tree.want(t, "cpu", group, file, value)
		process := enter(t, place)
		for _, in := range in(t, tree, process.Process.Pid) {
			if in != group {
				t.Errorf("it is in %s, not %s", in, group)
			}
		}
		if n, err := tree.Processes(p, "box"); n != 1 || err != nil {
			t.Errorf("%d processes are in it: %v", n, err)
		}
		if err := tree.Displace(p, "box"); !errors.Is(err, syscall.EBUSY) {
			t.Errorf("it is removed with its process: %v", err)
		}
		_, _ = process.Process.Kill(), process.Wait()
	}
	for range 2 {
		if err := tree.Displace(p, "box"); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range tree.hierarchies {
		if _, err := os.Stat(filepath.Join(h, tree.path(p, "box"))); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("it is left in %s: %v", h, err)
		}
	}
}

func TestASandboxHasAScopeOfItsPod(t *testing.T) {
	tree := openSystemd(t)
	p := burstable("s-1", "250m")
	if err := tree.Ensure(p); err != nil {
		t.Fatal(err)
	}
	place, err := tree.Place(p, "box")
	if err != nil {
		t.Fatal(err)
	}
	process := enter(t, place)
	group := tree.path(p, "box")
	if got := in(t, tree, process.Process.Pid); len(got) != 1 || got[0] != group {
		t.Errorf("it is in %v, not %s", got, group)
	}
	tree.want(t, "", group, "cpu.weight", "1")
	if err := tree.Displace(p, "box"); err != nil {
		t.Error(err)
	}
	_, _ = process.Process.Kill(), process.Wait()
	await(t, "the scope is gone", func() bool {
		_, err := os.Stat(filepath.Join(tree.mount, group))
		return errors.Is(err, os.ErrNotExist)
	})
	if out := command(t, "systemctl", "list-units", "--all", "--no-legend", filepath.Base(group)); out != "" {
		t.Errorf("systemd knows %s", out)
	}
	if err := tree.Remove(p); err != nil {
		t.Error(err)
	}
}
