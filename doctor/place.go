package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The defaults of evictionHard (nodefs.available, imagefs.available, and inodesFree of both), and what not even one image fits
// into.
const (
	leastFree       = 10 // percent
	leastFreeImages = 15 // percent
	leastInodes     = 5  // percent
	leastBytes      = 100 << 20
	leastFiles      = 1000
)

// mostFaults is of how many files the permissions are told in full.
const mostFaults = 5

// manifests need not be there: the agent waits for the folder.
func (h Host) manifests(dir string) Finding {
	const name = "manifests"
	info, err := os.Stat(h.at(dir))
	switch {
	case os.IsNotExist(err):
		return warn(name, "%s is not there: mkdir -p %[1]s", dir)
	case err != nil:
		return fail(name, "%s cannot be read: %v", dir, err)
	case !info.IsDir():
		return fail(name, "%s is no folder: move it away, and mkdir %[1]s", dir)
	}
	if _, err := os.ReadDir(h.at(dir)); err != nil {
		return fail(name, "%s cannot be read: %v", dir, err)
	}
	return ok(name, "%s", dir)
}

// permissions tells of what is not followed because others than root may write it.
func permissions(faults []error) []Finding {
	const name = "permissions"
	if len(faults) == 0 {
		return []Finding{ok(name, "only root may write what podkeeper follows")}
	}
	var findings []Finding
	for i, fault := range faults {
		if i == mostFaults {
			return append(findings, warn(name, "and %d more", len(faults)-i))
		}
		findings = append(findings, warn(name, "%v", fault))
	}
	return findings
}

// api is what answers kubectl. Pods run without.
func (h Host) api(program string) Finding {
	const name = "kubectl"
	if h.program("", program) == "" {
		return warn(name, "%s, which answers kubectl, is not there, or no program: make install installs it; name it with --api-binary where it is elsewhere", program)
	}
	return ok(name, "%s", program)
}

// disks looks at each file system that these folders, one of them that of images, are, or will be, on.
func (h Host) disks(images string, others ...string) []Finding {
	const name = "disk"
	folders := slices.Concat(others, []string{images})
	var findings []Finding
	var devices []uint64
	on := map[uint64][]string{}
	for _, folder := range folders {
		device, err := h.device(folder)
		if err != nil {
			findings = append(findings, fail(name, "%s cannot be looked at: %v", folder, err))
			continue
		}
		if on[device] == nil {
			devices = append(devices, device)
		}
		on[device] = append(on[device], folder)
	}
	for _, device := range devices {
		var st unix.Statfs_t
		folders := strings.Join(on[device], ", ")
		if err := h.Statfs(h.at(h.nearest(on[device][0])), &st); err != nil {
			findings = append(findings, fail(name, "%s cannot be looked at: %v", folders, err))
			continue
		}
		least := uint64(leastFree)
		if slices.Contains(on[device], images) {
			least = leastFreeImages
		}
		findings = append(findings, disk(folders, &st, least))
	}
	return findings
}

// nearest is a folder, or what exists of the way to it.
func (h Host) nearest(folder string) string {
	for folder != "/" && !h.exists(folder) {
		folder = filepath.Dir(folder)
	}
	return folder
}

func (h Host) device(folder string) (uint64, error) {
	folder = h.nearest(folder)
	info, err := os.Stat(h.at(folder))
	if err != nil {
		return 0, err
	}
	if !info.IsDir() {
		return 0, fmt.Errorf("%s is no folder", folder)
	}
	st, isStat := info.Sys().(*syscall.Stat_t)
	if !isStat {
		return 0, fmt.Errorf("%s has no device", folder)
	}
	return st.Dev, nil
}

// disk judges one file system, of which so many percent are to be free.
func disk(folders string, st *unix.Statfs_t, least uint64) Finding {
	const name = "disk"
	size := uint64(st.Bsize)
	free := st.Bavail * size
	percent := 100 * st.Bavail / max(st.Blocks, 1)
	inodes := uint64(100)
	if st.Files > 0 { // btrfs has no fixed number of them
		inodes = 100 * st.Ffree / st.Files
	}
	text := fmt.Sprintf("%s: %s of %s (%d%%) and %d%% of inodes free", folders, bytes(free), bytes(st.Blocks*size), percent, inodes)
	switch {
	case st.Flags&unix.ST_RDONLY != 0:
		return fail(name, "%s: mounted read-only: mount it read-write", folders)
	case free < leastBytes || st.Files > 0 && st.Ffree < leastFiles:
		return fail(name, "%s: make room", text)
	case percent < least || inodes < leastInodes:
		return warn(name, "%s: make room: no Pod begins, and Pods are evicted, below %d%% (inodes: %d%%), unless evictionHard says otherwise", text, least, leastInodes)
	default:
		return ok(name, "%s", text)
	}
}

// bytes writes a size for people.
func bytes(n uint64) string {
	if n < 10<<30 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d GiB", n>>30)
}

// shutdown says whether Pods have the time that they are to have when the host shuts down.
func shutdown(ctx context.Context, a Agent) Finding {
	const name = "shutdown"
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	delay, rivals, err := a.Logind(ctx)
	switch {
	case err != nil:
		return warn(name, "Pods have no time of their own (shutdownGracePeriod): systemd-logind is not to be had: start it, and the system bus: %v", err)
	case delay >= a.Shutdown:
		return ok(name, "logind waits for %s, and Pods have %s", delay, a.Shutdown)
	case len(rivals) > 0:
		return warn(name, "logind waits for %s, and Pods are to have %s: raise InhibitDelayMaxSec in %s", delay, a.Shutdown, rivals[len(rivals)-1])
	default:
		return ok(name, "logind waits for %s, which the agent makes %s", delay, a.Shutdown)
	}
}

// bootedBySystemd is what systemd's own programs go by.
func (h Host) bootedBySystemd() bool { return h.exists("/run/systemd/system") }

// systemd is not needed, but someone must start the agent.
func (h Host) systemd(ctx context.Context) Finding {
	const name = "systemd"
	if !h.bootedBySystemd() {
		return ok(name, "not the init of this host: have another supervisor run podkeeper agent, and start it again when it ends")
	}
	systemctl := h.program(h.Path+":"+servicePath, "systemctl")
	if systemctl == "" {
		return warn(name, "systemctl is missing, so that podkeeper.service cannot be looked at: add its folder to PATH")
	}
	said, err := h.run(ctx, systemctl, "show", "--property=LoadState,UnitFileState,ActiveState,SubState", "podkeeper.service")
	if err != nil {
		return warn(name, "podkeeper.service cannot be looked at: %v", err)
	}
	state := map[string]string{}
	for line := range strings.Lines(said) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		state[key] = value
	}
	switch {
	case state["LoadState"] == "not-found":
		return ok(name, "podkeeper.service is not installed; make install does that")
	case state["LoadState"] != "loaded":
		return warn(name, "podkeeper.service is %s: systemctl status podkeeper says why", state["LoadState"])
	case state["ActiveState"] == "failed" || state["SubState"] == "auto-restart":
		return warn(name, "podkeeper.service fails: journalctl -u podkeeper says why")
	case state["UnitFileState"] == "disabled":
		return warn(name, "podkeeper.service is %s, but no boot starts it: systemctl enable podkeeper", state["ActiveState"])
	default:
		return ok(name, "podkeeper.service is %s, %s", state["UnitFileState"], state["ActiveState"])
	}
}
