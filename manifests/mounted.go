package manifests

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// mounted tells an empty directory from one whose file system is away: what shows then is the folder below, which is empty, too.
type mounted struct {
	file  string // where it is remembered on what the manifests were mounted; "" is nowhere
	point string // that mount point; "" while it is not known
	mount uint64 // the id of the mount that was looked at last
}

func openMounted(keepDir string) *mounted {
	m := &mounted{}
	if keepDir != "" {
		m.file = filepath.Join(keepDir, "mountpoint")
		point, _ := os.ReadFile(m.file) // without it the next look says
		m.point = strings.TrimSpace(string(point))
	}
	return m
}

// check is called with each look at the directory, and whether there are manifests in it. The error is that there are none because
// nothing is mounted any more where they were.
func (m *mounted) check(dir string, any bool) error {
	id, known := mountID(dir)
	if known && id == m.mount {
		return nil
	}
	point, all, err := mountPoint(dir)
	if err != nil {
		return nil // nobody can tell
	}
	if !any && m.point != "" && !all[m.point] {
		return fmt.Errorf("%s is empty, and on %s, where its manifests were, nothing is mounted: mount it, or write a manifest where there is none now", dir, m.point)
	}
	if any && point != m.point {
		if m.file != "" {
			if err := store(filepath.Dir(m.file), filepath.Base(m.file), []byte(point)); err != nil {
				return nil // it is tried again
			}
		}
		m.point = point
	}
	if any || point == m.point {
		m.mount = id
	}
	return nil
}

// mountID is the kernel's id of the mount that a directory is on, where it tells.
func mountID(dir string) (id uint64, known bool) {
	var stat unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_MNT_ID, &stat); err != nil {
		return 0, false
	}
	return stat.Mnt_id, stat.Mask&unix.STATX_MNT_ID != 0
}

// mountPoint is where that mount is, and all mount points that there are.
func mountPoint(dir string) (point string, all map[string]bool, err error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", nil, fmt.Errorf("find mount point: %w", err)
	}
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return "", nil, fmt.Errorf("find mount point: %w", err)
	}
	all = map[string]bool{}
	for _, m := range mounts {
		all[m.Mountpoint] = true
		if below := strings.HasPrefix(real+"/", strings.TrimSuffix(m.Mountpoint, "/")+"/"); below && len(m.Mountpoint) > len(point) {
			point = m.Mountpoint
		}
	}
	return point, all, nil
}
