package volumes

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// A volume whose files podkeeper writes looks as under Kubernetes, where programs rely on it:
//
//	<volume>/..2026_01_31_12_00_00.123456789/key    the files
//	<volume>/..data -> ..2026_01_31_12_00_00.123456789
//	<volume>/key -> ..data/key                      one for each first element of the files' paths
//
// An update writes all files anew, in a folder that nobody sees yet, and gives ..data to it in one rename. What is cut
// off before is swept away by the next one; what is cut off after is completed by it.
const (
	dataLink     = "..data"
	dataLinkNew  = "..data_tmp"
	dataTime     = "..2006_01_02_15_04_05."
	dataMode     = 0o755
	payloadShare = 2 // of the node's memory, the part that one volume may take

	// payloadMode lets everybody read. Kubernetes lets everybody write, too, in a mount that is read-only anyway.
	payloadMode fs.FileMode = 0o755 | fs.ModeSticky
)

// payloadKind is the folder of the volumes of this kind, if it is one whose files podkeeper writes, or "". All of them
// are in memory. Kubernetes has configMaps on disk, for want of a Pod to charge the memory to; but making a file there,
// and the symlink to it, takes twenty times as long.
func payloadKind(volume *v1.Volume) string {
	switch {
	case volume.ConfigMap != nil:
		return configMapFolder
	case volume.Secret != nil:
		return secretFolder
	case volume.DownwardAPI != nil:
		return downwardFolder
	case volume.Projected != nil:
		return projectedFolder
	default:
		return ""
	}
}

// setupPayload makes the volume where it is not there yet, and brings its files up to date.
func (v *Volumes) setupPayload(pod *v1.Pod, volume *v1.Volume, given Given) error {
	files, ok := given.Files[volume.Name]
	if !ok {
		return errors.New("its files are not given")
	}
	folder := filepath.Join(v.root, string(pod.UID), volumesFolder, payloadKind(volume), volume.Name)
	p := payload{folder: folder, gid: fsGroup(pod)}
	var err error
	if p.files, p.folders, err = checked(files); err != nil {
		return err
	}
	if p.points, err = mountPoints(pod, volume.Name); err != nil {
		return err
	}
	mode := payloadMode
	if p.gid >= 0 {
		mode |= fs.ModeSetgid
	}
	if err := makeFolder(p.folder, mode, p.gid); err != nil {
		return fmt.Errorf("make volume: %w", err)
	}
	if err := tmpfs(v.memory/payloadShare).labelled(labelling(given.Label)).mount(p.folder, mode, p.gid); err != nil {
		return err
	}
	return p.write()
}

// checked are the files with their paths cleaned, and the folders they are in, each after the one it is in. A path must
// stay in the volume, and not look like what is podkeeper's own there (pkg/volume/util, validatePath).
func checked(files []File) (map[string]File, []string, error) {
	out, folders := map[string]File{}, map[string]bool{}
	for _, f := range files {
		path := filepath.Clean(f.Path)
		switch {
		case f.Path == "" || filepath.IsAbs(f.Path) || slices.Contains(strings.Split(f.Path, "/"), "..") || path == ".":
			return nil, nil, fmt.Errorf("file %q: want a relative path without \"..\"", f.Path)
		case strings.HasPrefix(path, ".."):
			return nil, nil, fmt.Errorf("file %q: the path must not begin with \"..\"", f.Path)
		case strings.Contains(path, "\x00"):
			return nil, nil, fmt.Errorf("file %q: want a path without NUL", f.Path)
		}
		if _, ok := out[path]; ok {
			return nil, nil, fmt.Errorf("file %q is given twice", path)
		}
		out[path] = f
		for folder := filepath.Dir(path); folder != "."; folder = filepath.Dir(folder) {
			folders[folder] = true
		}
	}
	for folder := range folders {
		if _, ok := out[folder]; ok {
			return nil, nil, fmt.Errorf("file %q: another file needs a folder of this name", folder)
		}
	}
	return out, slices.Sorted(maps.Keys(folders)), nil
}

// mountPoints are the folders in a volume that the Pod's containers mount others of its volumes on. A runtime could not
// make them in a mount that is read-only (pkg/volume/util, MakeNestedMountpoints). Ephemeral containers do not count:
// what they mount must not hide a file from the others.
func mountPoints(pod *v1.Pod, name string) ([]string, error) {
	points := map[string]bool{}
	for _, containers := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			for _, outer := range containers[i].VolumeMounts {
				if outer.Name != name || outer.SubPath != "" || outer.SubPathExpr != "" {
					continue
				}
				for _, path := range nested(outer.MountPath, containers[i].VolumeMounts) {
					if strings.HasPrefix(path, "..") {
						return nil, fmt.Errorf("mount in it at %q: the path must not begin with \"..\"", path)
					}
					points[path] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(points)), nil
}

// nested are the paths below a mount of a container where others of its mounts are, but for those in yet another of
// them.
func nested(outer string, mounts []v1.VolumeMount) []string {
	at := func(path string) string { return strings.TrimSuffix(filepath.Join("/", path), "/") + "/" }
	var below []string
	for _, m := range mounts {
		if path, ok := strings.CutPrefix(at(m.MountPath), at(outer)); ok && path != "" {
			below = append(below, path)
		}
	}
	return slices.DeleteFunc(slices.Clone(below), func(path string) bool {
		within := func(other string) bool { return other != path && strings.HasPrefix(path, other) }
		return slices.ContainsFunc(below, within)
	})
}

// payload is the content of a volume whose files podkeeper writes.
type payload struct {
	folder  string
	files   map[string]File // by clean path
	folders []string
	gid     int      // of all files, -1: ours
	points  []string // folders in the volume that others are mounted on
}

// write brings the volume up to date, from whatever state it is in.
func (p *payload) write() error {
	if err := p.makeMountPoints(); err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	current, err := os.Readlink(p.at(dataLink))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("find present files: %w", err)
	}
	if plainName(current) != nil || !p.matches(p.at(current)) {
		if current, err = p.publish(); err != nil {
			return fmt.Errorf("write files: %w", err)
		}
	}
	if err := p.tidy(current); err != nil {
		return fmt.Errorf("tidy files: %w", err)
	}
	return nil
}

func (p *payload) at(path string) string { return filepath.Join(p.folder, path) }

// makeMountPoints makes folders for what is mounted in the volume. They come before the symlinks to the files, and are
// kept apart from them: an update must not move them.
func (p *payload) makeMountPoints() error {
	for _, path := range p.points {
		at := p.folder
		for part := range strings.SplitSeq(strings.TrimSuffix(path, "/"), "/") {
			at = filepath.Join(at, part)
			if err := makeFolder(at, dataMode, p.gid); err != nil {
				return err
			}
		}
	}
	return nil
}

// mode is the mode that a file gets.
func (p *payload) mode(f File) fs.FileMode {
	mode := fs.FileMode(f.Mode).Perm()
	if p.gid >= 0 {
		mode |= fs.FileMode(grouping{readOnly: true}.bits(0))
	}
	return mode
}

// matches says that these are the files, and no others. Whatever keeps it from telling is a reason to write them anew.
func (p *payload) matches(data string) bool {
	found := 0
	err := filepath.WalkDir(data, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		found++
		f, ok := p.files[strings.TrimPrefix(path, data+"/")]
		if !ok || !p.same(path, f) {
			return errDiffers
		}
		return nil
	})
	return err == nil && found == len(p.files)
}

// errDiffers ends a comparison.
var errDiffers = errors.New("it differs")

// same says that a file on disk is the one given.
func (p *payload) same(path string, want File) bool {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil || st.Mode != unix.S_IFREG|unixMode(p.mode(want)) ||
		st.Size != int64(len(want.Data)) || p.gid >= 0 && int64(st.Gid) != int64(p.gid) || int64(st.Uid) != ptr.Deref(want.User, 0) {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	got := make([]byte, len(want.Data))
	_, err = io.ReadFull(f, got)
	return err == nil && bytes.Equal(got, want.Data)
}

// publish writes the files and gives ..data to them.
func (p *payload) publish() (string, error) {
	data, err := os.MkdirTemp(p.folder, time.Now().UTC().Format(dataTime))
	if err != nil {
		return "", err
	}
	if err := p.fill(data); err != nil {
		return "", errors.Join(err, os.RemoveAll(data))
	}
	if err := os.Remove(p.at(dataLinkNew)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	name := filepath.Base(data)
	if err := os.Symlink(name, p.at(dataLinkNew)); err != nil {
		return "", err
	}
	return name, os.Rename(p.at(dataLinkNew), p.at(dataLink))
}

// fill writes the files into a folder that is empty.
func (p *payload) fill(data string) error {
	if err := p.open(data); err != nil {
		return err
	}
	for _, folder := range p.folders {
		folder = filepath.Join(data, folder)
		if err := os.Mkdir(folder, dataMode); err != nil {
			return err
		}
		if err := p.open(folder); err != nil {
			return err
		}
	}
	for path, f := range p.files {
		if err := p.writeFile(filepath.Join(data, path), f); err != nil {
			return err
		}
	}
	return nil
}

// open gives a folder its mode. Its group, as that of the files, comes from the setgid bit of the folder it is in.
func (p *payload) open(folder string) error {
	if p.gid < 0 {
		return os.Chmod(folder, dataMode)
	}
	return os.Chmod(folder, dataMode|fs.ModeSetgid)
}

func (p *payload) writeFile(path string, f File) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Write(f.Data); err != nil {
		return err
	}
	if f.User != nil {
		if err := file.Chown(int(*f.User), -1); err != nil {
			return err
		}
	}
	if err := file.Chmod(p.mode(f)); err != nil { // whatever the umask
		return err
	}
	return file.Close()
}

// tidy makes the visible names those of the present files, and sweeps away what is left of others.
func (p *payload) tidy(current string) error {
	visible := map[string]bool{}
	for path := range p.files {
		first, _, _ := strings.Cut(path, "/")
		visible[first] = true
	}
	for _, path := range p.points { // hides a file of its name, as under Kubernetes
		first, _, _ := strings.Cut(path, "/")
		delete(visible, first)
	}
	entries, err := os.ReadDir(p.folder)
	if err != nil {
		return err
	}
	var stale []string
	for _, entry := range entries {
		name := entry.Name()
		switch {
		case name == dataLink || name == current:
		case strings.HasPrefix(name, ".."):
			stale = append(stale, name)
		case entry.Type() == fs.ModeSymlink && visible[name] && p.leads(name):
			delete(visible, name)
		case entry.Type() == fs.ModeSymlink || visible[name]:
			// What is no symlink was made for a subPath when there was no such file: an empty folder, or this fails.
			if err := os.Remove(p.at(name)); err != nil {
				return err
			}
		}
	}
	for name := range visible {
		if err := os.Symlink(filepath.Join(dataLink, name), p.at(name)); err != nil {
			return err
		}
	}
	for _, name := range stale {
		if err := os.RemoveAll(p.at(name)); err != nil {
			return err
		}
	}
	return nil
}

// leads says that a visible name leads to the files.
func (p *payload) leads(name string) bool {
	to, err := os.Readlink(p.at(name))
	return err == nil && to == filepath.Join(dataLink, name)
}
