package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// payloads are the kinds of volumes whose files podkeeper writes.
var payloads = map[string]v1.VolumeSource{
	configMapFolder: {ConfigMap: &v1.ConfigMapVolumeSource{}},
	secretFolder:    {Secret: &v1.SecretVolumeSource{}},
	downwardFolder:  {DownwardAPI: &v1.DownwardAPIVolumeSource{}},
	projectedFolder: {Projected: &v1.ProjectedVolumeSource{}},
}

// given are files of the volume "v".
func given(files ...File) Given { return Given{Files: map[string][]File{"v": files}} }

func file(path, data string) File { return File{Path: path, Data: []byte(data), Mode: 0o644} }

// payloadPod has the volume "v", where the folder it answers is.
func payloadPod(v *Volumes, kind string) (*v1.Pod, string) {
	p := podWith(v1.Volume{Name: "v", VolumeSource: payloads[kind]})
	return p, filepath.Join(v.root, string(podUID), volumesFolder, kind, "v")
}

// withGroup gives a Pod an fsGroup.
func withGroup(p *v1.Pod, gid int64) *v1.Pod {
	p.Spec.SecurityContext = &v1.PodSecurityContext{FSGroup: &gid}
	return p
}

// listing is a line for each entry of a folder. What the time names is called ..T.
func listing(t testing.TB, folder string) (out []string) {
	t.Helper()
	must(t, filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		must(t, unix.Lstat(path, &st))
		line := "." + strings.TrimPrefix(path, folder)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			to, err := os.Readlink(path)
			must(t, err)
			line = fmt.Sprintf("%s -> %s", line, to)
		case unix.S_IFDIR:
			line = fmt.Sprintf("%s/ %o %d", line, st.Mode&0o7777, st.Gid)
		default:
			data, err := os.ReadFile(path)
			must(t, err)
			line = fmt.Sprintf("%s %o %d %q", line, st.Mode&0o7777, st.Gid, data)
		}
		if data, err := os.Readlink(filepath.Join(folder, dataLink)); err == nil {
			line = strings.ReplaceAll(line, data, "..T")
		}
		out = append(out, line)
		return nil
	}))
	slices.Sort(out)
	return out
}

// wantListing compares a folder with lines that are in any order.
func wantListing(t testing.TB, folder string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if diff := cmp.Diff(want, listing(t, folder)); diff != "" {
		t.Error(diff)
	}
}

func TestFilesAreLaidOutAsUnderKubernetes(t *testing.T) {
	t.Parallel()
	needRoot(t)
	files := given(file("b/deep/f", "3"), File{Path: "a", Data: []byte("1"), Mode: 0o400}, file("b/e", "2"), File{Path: "./b//x", Mode: 0o755})
	for kind := range payloads {
		for sentence, c := range map[string]struct {
			fsGroup int64
			want    []string
		}{
			"without fsGroup": {-1, []string{
				"./ 1755 0", "./..T/ 755 0", "./..data -> ..T", "./a -> ..data/a", "./b -> ..data/b",
				`./..T/a 400 0 "1"`, "./..T/b/ 755 0", "./..T/b/deep/ 755 0", `./..T/b/deep/f 644 0 "3"`, `./..T/b/e 644 0 "2"`, `./..T/b/x 755 0 ""`,
			}},
			"its group may read with fsGroup": {3000, []string{
				"./ 3755 3000", "./..T/ 2755 3000", "./..data -> ..T", "./a -> ..data/a", "./b -> ..data/b",
				`./..T/a 440 3000 "1"`, "./..T/b/ 2755 3000", "./..T/b/deep/ 2755 3000",
				`./..T/b/deep/f 644 3000 "3"`, `./..T/b/e 644 3000 "2"`, `./..T/b/x 755 3000 ""`,
			}},
		} {
			t.Run(kind+": "+sentence, func(t *testing.T) {
				t.Parallel()
				v := open(t)
				p, folder := payloadPod(v, kind)
				if c.fsGroup >= 0 {
					withGroup(p, c.fsGroup)
				}
				must(t, v.Setup(t.Context(), p, files))
				wantListing(t, folder, c.want...)
				var system unix.Statfs_t
				must(t, unix.Statfs(folder, &system))
				if system.Type != unix.TMPFS_MAGIC {
					t.Errorf("a file system of type %x, want one in memory", system.Type)
				}
				must(t, v.Teardown(context.Background(), podUID))
				if left, err := os.ReadDir(v.root); err != nil || len(left) > 0 {
					t.Errorf("left: %v, %v", left, err)
				}
			})
		}
	}
}

func TestAnUpdate(t *testing.T) {
	t.Parallel()
	needRoot(t)
	before := []File{file("a", "1"), file("b/c", "2")}
	for sentence, c := range map[string]struct {
		after  []File
		writes bool
		want   []string // besides ..data and what holds the files
	}{
		"nothing is written when nothing has changed": {before, false, []string{"./a -> ..data/a", "./b -> ..data/b", `./..T/a 644 0 "1"`, "./..T/b/ 755 0", `./..T/b/c 644 0 "2"`}},
		"other data of the same length":               {[]File{file("a", "9"), file("b/c", "2")}, true, []string{"./a -> ..data/a", "./b -> ..data/b", `./..T/a 644 0 "9"`, "./..T/b/ 755 0", `./..T/b/c 644 0 "2"`}},
		"longer data":                                 {[]File{file("a", "12"), file("b/c", "2")}, true, []string{"./a -> ..data/a", "./b -> ..data/b", `./..T/a 644 0 "12"`, "./..T/b/ 755 0", `./..T/b/c 644 0 "2"`}},
		"another mode":                                {[]File{{Path: "a", Data: []byte("1"), Mode: 0o600}, file("b/c", "2")}, true, []string{"./a -> ..data/a", "./b -> ..data/b", `./..T/a 600 0 "1"`, "./..T/b/ 755 0", `./..T/b/c 644 0 "2"`}},
		"a file more":                                 {append(slices.Clone(before), file("d", "3")), true, []string{"./a -> ..data/a", "./b -> ..data/b", "./d -> ..data/d", `./..T/a 644 0 "1"`, "./..T/b/ 755 0", `./..T/b/c 644 0 "2"`, `./..T/d 644 0 "3"`}},
		"a file less":                                 {before[1:], true, []string{"./b -> ..data/b", "./..T/b/ 755 0", `./..T/b/c 644 0 "2"`}},
		"a folder less":                               {before[:1], true, []string{"./a -> ..data/a", `./..T/a 644 0 "1"`}},
		"a folder that becomes a file":                {[]File{file("a", "1"), file("b", "2")}, true, []string{"./a -> ..data/a", "./b -> ..data/b", `./..T/a 644 0 "1"`, `./..T/b 644 0 "2"`}},
		"no files at all":                             {nil, true, nil},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			v := open(t)
			p, folder := payloadPod(v, configMapFolder)
			must(t, v.Setup(t.Context(), p, given(before...)))
			first, written := dataOf(t, folder), lastChange(t, folder)
			must(t, v.Update(p, given(c.after...)))
			if wrote := dataOf(t, folder) != first; wrote != c.writes {
				t.Errorf("a new folder for the files: %v, want %v", wrote, c.writes)
			}
			if !c.writes && lastChange(t, folder) != written {
				t.Error("the volume was written to")
			}
			wantListing(t, folder, append(c.want, "./ 1755 0", "./..T/ 755 0", "./..data -> ..T")...)
			must(t, v.Teardown(context.Background(), podUID))
		})
	}
}

// dataOf is the folder of the present files.
func dataOf(t testing.TB, folder string) string {
	t.Helper()
	data, err := os.Readlink(filepath.Join(folder, dataLink))
	must(t, err)
	return data
}

// lastChange is what the kernel says of the last change of a folder's entries and of each of them.
func lastChange(t testing.TB, folder string) string {
	t.Helper()
	var out []string
	must(t, filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		out = append(out, fmt.Sprint(path, unix.Lstat(path, &st), st.Ino, st.Ctim, st.Mtim))
		return err
	}))
	return strings.Join(out, "\n")
}

func TestFilesOfAnotherGroupAreWrittenAnew(t *testing.T) {
	t.Parallel()
	needRoot(t)
	v := open(t)
	p, folder := payloadPod(v, configMapFolder)
	withGroup(p, 3000)
	must(t, v.Setup(t.Context(), p, given(file("a", "1"))), os.Chown(folder+"/a", 0, 0), v.Update(p, given(file("a", "1"))))
	wantListing(t, folder, "./ 3755 3000", "./..T/ 2755 3000", "./..data -> ..T", "./a -> ..data/a", `./..T/a 644 3000 "1"`)
	must(t, v.Teardown(context.Background(), podUID))
}

func TestUpdateLeavesOtherVolumesAlone(t *testing.T) {
	t.Parallel()
	needRoot(t)
	v := open(t)
	p, folder := payloadPod(v, secretFolder)
	p.Spec.Volumes = append([]v1.Volume{
		emptyDir("data"), hostPath("/nonexistent", "Directory"), {Name: "other", VolumeSource: payloads[secretFolder]},
	}, p.Spec.Volumes...)
	err := v.Update(p, given(file("a", "1")))
	if err == nil || err.Error() != `update volume "other": its files are not given` {
		t.Errorf("got %v", err)
	}
	wantFile(t, filepath.Join(folder, "a"), "1")
	if _, err := os.Stat(v.folder("data")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the emptyDir is made: %v", err)
	}
	must(t, v.Teardown(context.Background(), podUID))
}

// A volume is completed from every state that an update leaves when it is killed, and from some that only an owner of the
// node can make.
func TestAnUpdateThatWasInterrupted(t *testing.T) {
	t.Parallel()
	needRoot(t)
	const half = "..2026_01_01_00_00_00.1"
	for sentence, prepare := range map[string]func(folder string) error{
		"a folder without files":          func(f string) error { return os.Mkdir(f+"/"+half, 0o700) },
		"a folder with some of the files": func(f string) error { write(t, f+"/"+half+"/a", "ne"); return nil },
		"the new link was made": func(f string) error {
			write(t, f+"/"+half+"/a", "new")
			return os.Symlink(half, f+"/..data_tmp")
		},
		"the new link leads to nowhere": func(f string) error { return os.Symlink(half, f+"/..data_tmp") },
		"the link was renamed, and no name made visible": func(f string) error {
			write(t, f+"/"+half+"/a", "new")
			write(t, f+"/"+half+"/c/d", "new")
			return errors.Join(os.Symlink(half, f+"/..data_tmp"), os.Rename(f+"/..data_tmp", f+"/..data"))
		},
		"the names are visible, and those of old files not removed": func(f string) error {
			write(t, f+"/"+half+"/a", "new")
			write(t, f+"/"+half+"/c/d", "new")
			return errors.Join(os.Symlink(half, f+"/..data_tmp"), os.Rename(f+"/..data_tmp", f+"/..data"), os.Symlink("..data/c", f+"/c"))
		},
		"the old files were removed in part": func(f string) error {
			old, _ := os.Readlink(f + "/..data")
			write(t, f+"/"+half+"/a", "new")
			write(t, f+"/"+half+"/c/d", "new")
			return errors.Join(os.Symlink(half, f+"/..data_tmp"), os.Rename(f+"/..data_tmp", f+"/..data"), os.Symlink("..data/c", f+"/c"),
				os.Remove(f+"/b"), os.Remove(f+"/"+old+"/a"))
		},
		"the present files were lost":      func(f string) error { return os.RemoveAll(f + "/" + dataOf(t, f)) },
		"a present file was cut off":       func(f string) error { return os.Truncate(f+"/a", 0) },
		"there is no link":                 func(f string) error { return os.Remove(f + "/..data") },
		"the link leads out of the volume": func(f string) error { return errors.Join(os.Remove(f+"/..data"), os.Symlink("../..", f+"/..data")) },
		"the link leads to a copy that is elsewhere": func(f string) error {
			write(t, f+"/../copy/a", "new")
			write(t, f+"/../copy/c/d", "new")
			must(t, os.Chmod(f+"/../copy", 0o755))
			return errors.Join(os.Remove(f+"/..data"), os.Symlink("../copy", f+"/..data"))
		},
		"the link leads to the volume":         func(f string) error { return errors.Join(os.Remove(f+"/..data"), os.Symlink(".", f+"/..data")) },
		"a visible name is missing":            func(f string) error { return os.Remove(f + "/a") },
		"a visible name leads somewhere else":  func(f string) error { return errors.Join(os.Remove(f+"/a"), os.Symlink("/etc/passwd", f+"/a")) },
		"a folder is where a file's name goes": func(f string) error { return os.Mkdir(f+"/c", 0o755) },
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			v := open(t)
			p, folder := payloadPod(v, configMapFolder)
			must(t, v.Setup(t.Context(), p, given(file("a", "old"), file("b", "old"))), prepare(folder))
			must(t, v.Setup(t.Context(), p, given(file("a", "new"), file("c/d", "new"))))
			wantListing(t, folder, "./ 1755 0", "./..T/ 755 0", "./..data -> ..T", "./a -> ..data/a", "./c -> ..data/c",
				`./..T/a 644 0 "new"`, "./..T/c/ 755 0", `./..T/c/d 644 0 "new"`)
			must(t, v.Teardown(context.Background(), podUID))
		})
	}
}

func TestAFirstSetupThatWasInterrupted(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for kind := range payloads {
		for sentence, prepare := range map[string]func(folder string) error{
			"the folder had no name yet":                             func(f string) error { return os.MkdirAll(filepath.Join(filepath.Dir(f), ".v"), 0o700) },
			"nothing is mounted, or the node was started anew since": func(f string) error { return os.MkdirAll(f, 0o755|fs.ModeSticky) },
			"nothing is in the file system": func(f string) error {
				return errors.Join(os.MkdirAll(f, 0o755), tmpfs(1<<20).mount(f, payloadMode, -1))
			},
		} {
			t.Run(kind+": "+sentence, func(t *testing.T) {
				t.Parallel()
				v := open(t)
				p, folder := payloadPod(v, kind)
				must(t, prepare(folder), os.Chmod(filepath.Dir(folder), 0o750))
				must(t, v.Setup(t.Context(), p, given(file("a", "1"))))
				wantFile(t, filepath.Join(folder, "a"), "1")
				if got, want := len(mountsBelow(t, v.root)), 1; got != want {
					t.Errorf("%d mounts, want %d", got, want)
				}
				must(t, v.Teardown(context.Background(), podUID))
			})
		}
	}
}

func TestReadersNeverSeeAMix(t *testing.T) {
	t.Parallel()
	needRoot(t)
	v := open(t)
	p, folder := payloadPod(v, secretFolder)
	files := func(i int) Given { return given(file("a", fmt.Sprint(i)), file("b/c", fmt.Sprint(i))) }
	must(t, v.Setup(t.Context(), p, files(0)))
	stop := make(chan struct{})
	var reading sync.WaitGroup
	reads := 0
	reading.Go(func() {
		for ; ; reads++ {
			select {
			case <-stop:
				return
			default:
			}
			for _, name := range []string{dataLink, "a", "b"} {
				if _, err := os.Lstat(filepath.Join(folder, name)); err != nil {
					t.Error(err)
				}
			}
			// As programs do that care: the link is followed once. What it led to may be swept away meanwhile.
			data, err := os.Open(filepath.Join(folder, dataLink))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				t.Error(err)
				return
			}
			a, errA := readIn(data, "a")
			b, errB := readIn(data, "b/c")
			data.Close()
			if err := errors.Join(errA, errB); err != nil {
				if !errors.Is(err, unix.ENOENT) {
					t.Error(err)
				}
			} else if a != b {
				t.Errorf("a is %s and b is %s", a, b)
			}
		}
	})
	for i := range 500 {
		must(t, v.Update(p, files(i+1)))
	}
	close(stop)
	reading.Wait()
	t.Logf("read %d times", reads)
	must(t, v.Teardown(context.Background(), podUID))
}

// readIn reads a file below a folder that is open.
func readIn(folder *os.File, path string) (string, error) {
	fd, err := unix.Openat(int(folder.Fd()), path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	data := make([]byte, 16)
	n, err := f.Read(data)
	return string(data[:n]), err
}

func TestFilesThatAreRefused(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for sentence, c := range map[string]struct {
		files []File
		want  string
	}{
		"no path":                     {[]File{file("", "")}, `file "": want a relative path without ".."`},
		"the volume itself":           {[]File{file("./", "")}, `file "./": want a relative path`},
		"an absolute path":            {[]File{file("/etc/passwd", "")}, `file "/etc/passwd": want a relative path`},
		"up and out":                  {[]File{file("../x", "")}, `file "../x": want a relative path without ".."`},
		"up, even if not out":         {[]File{file("a/../b", "")}, `file "a/../b": want a relative path without ".."`},
		"podkeeper's own link":        {[]File{file("..data", "")}, `file "..data": the path must not begin with ".."`},
		"below podkeeper's own link":  {[]File{file("./..data/x", "")}, `file "./..data/x": the path must not begin with ".."`},
		"a NUL":                       {[]File{file("a\x00", "")}, "without NUL"},
		"the same path twice":         {[]File{file("a/b", ""), file("a//b", "")}, `file "a/b" is given twice`},
		"a file that is a folder":     {[]File{file("a/b/c", ""), file("a", "")}, `file "a": another file needs a folder of this name`},
		"a file that is one, reverse": {[]File{file("a/b", ""), file("a/b/c", "")}, `file "a/b": another file needs a folder`},
		"a name that is too long":     {[]File{file(strings.Repeat("x", 256), "")}, "file name too long"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			v := open(t)
			p, folder := payloadPod(v, configMapFolder)
			must(t, v.Setup(t.Context(), p, given(file("kept", "1"))))
			before := listing(t, folder)
			for call, err := range map[string]error{"set up": v.Setup(t.Context(), p, given(c.files...)), "update": v.Update(p, given(c.files...))} {
				if err == nil || !strings.HasPrefix(err.Error(), call+` volume "v": `) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: got %v, want %q", call, err, c.want)
				}
			}
			wantListing(t, folder, before...)
			must(t, v.Teardown(context.Background(), podUID))
		})
	}
}

func TestNamesThatBeginWithDots(t *testing.T) {
	t.Parallel()
	needRoot(t)
	v := open(t)
	p, folder := payloadPod(v, configMapFolder)
	must(t, v.Setup(t.Context(), p, given(file(".a", "1"), file("b/..c", "2"))))
	wantFile(t, filepath.Join(folder, ".a"), "1")
	wantFile(t, filepath.Join(folder, "b/..c"), "2")
	must(t, v.Teardown(context.Background(), podUID))
}

func TestOthersAreMountedInAVolumeOfFiles(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for sentence, c := range map[string]struct {
		mounts []v1.VolumeMount
		want   []string
		fails  string
	}{
		"below it":                 {[]v1.VolumeMount{{Name: "v", MountPath: "/etc/x"}, {Name: "o", MountPath: "/etc/x/in/deep"}}, []string{"in", "in/deep"}, ""},
		"below it, given relative": {[]v1.VolumeMount{{Name: "v", MountPath: "etc/x/"}, {Name: "o", MountPath: "/etc//x/in"}}, []string{"in"}, ""},
		"below the root":           {[]v1.VolumeMount{{Name: "v", MountPath: "/"}, {Name: "o", MountPath: "/in"}}, []string{"in"}, ""},
		"in one that is below it": {[]v1.VolumeMount{
			{Name: "o", MountPath: "/x/in/other"}, {Name: "v", MountPath: "/x"}, {Name: "o", MountPath: "/x/in"}, {Name: "o", MountPath: "/x/in-2"},
		}, []string{"in", "in-2"}, ""},
		"beside it":                   {[]v1.VolumeMount{{Name: "v", MountPath: "/x"}, {Name: "o", MountPath: "/x2/in"}}, nil, ""},
		"below a subPath of it":       {[]v1.VolumeMount{{Name: "v", MountPath: "/x", SubPath: "a"}, {Name: "o", MountPath: "/x/in"}}, nil, ""},
		"in place of podkeeper's own": {[]v1.VolumeMount{{Name: "v", MountPath: "/x"}, {Name: "o", MountPath: "/x/..data"}}, nil, `must not begin with ".."`},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			v := open(t)
			p, folder := payloadPod(v, secretFolder)
			p.Spec.InitContainers = []v1.Container{{Name: "init", VolumeMounts: c.mounts}}
			err := v.Setup(t.Context(), p, given(file("a", "1")))
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("got %v, want %q", err, c.fails)
				}
				return
			}
			must(t, err, v.Update(p, given(file("a", "2"), file("in/hidden", "3"))))
			var got []string
			for _, line := range listing(t, folder)[1:] {
				if path, _, isFolder := strings.Cut(line, "/ "); isFolder && !strings.HasPrefix(path, "./..") {
					got = append(got, strings.TrimPrefix(path, "./"))
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			// A file of the same name is hidden, and the others are not.
			if _, err := os.Stat(filepath.Join(folder, "in/hidden")); (err == nil) != (c.want == nil) {
				t.Errorf("the file that is hidden: %v", err)
			}
			wantFile(t, filepath.Join(folder, "a"), "2")
			must(t, v.Teardown(context.Background(), podUID))
		})
	}
}

func TestASubPathOfAVolumeOfFiles(t *testing.T) {
	t.Parallel()
	needRoot(t)
	v := open(t)
	p, folder := payloadPod(v, secretFolder)
	must(t, v.Setup(t.Context(), p, given(file("a", "1"))))
	c := &v1.Container{Name: "main", VolumeMounts: []v1.VolumeMount{
		{Name: "v", MountPath: "/a", SubPath: "a"}, {Name: "v", MountPath: "/later", SubPath: "later"},
	}}
	mounts, release, err := v.Mounts(p, c, Given{}, noExpansion)
	must(t, err)
	// As under Kubernetes, the container keeps the file it was started with, and an empty folder in place of one that is missing.
	must(t, v.Update(p, given(file("a", "2"), file("later", "3"))))
	wantFile(t, mounts[0].Source, "1")
	if entries, err := os.ReadDir(mounts[1].Source); err != nil && !errors.Is(err, fs.ErrNotExist) || len(entries) > 0 || !mounts[1].ReadOnly {
		t.Errorf("got %v, %v, read-only: %v", entries, err, mounts[1].ReadOnly)
	}
	wantFile(t, filepath.Join(folder, "later"), "3")
	must(t, release(), v.Teardown(context.Background(), podUID))
}

// thousand are files of 100 bytes.
func thousand(version int) Given {
	var files []File
	for i := range 1000 {
		files = append(files, file(fmt.Sprintf("key-%d", i), fmt.Sprintf("%0100d", version)))
	}
	return given(files...)
}

// BenchmarkFiles writes a volume of 1000 keys: for the first time, all anew, and not at all.
func BenchmarkFiles(b *testing.B) {
	needRoot(b)
	b.Run("first", func(b *testing.B) {
		v := open(b)
		p, _ := payloadPod(v, configMapFolder)
		for b.Loop() {
			must(b, v.Setup(b.Context(), p, thousand(0)))
			b.StopTimer()
			must(b, v.Teardown(context.Background(), podUID))
			b.StartTimer()
		}
	})
	for name, step := range map[string]int{"changed": 1, "unchanged": 0} {
		b.Run(name, func(b *testing.B) {
			v := open(b)
			p, _ := payloadPod(v, configMapFolder)
			for i := 0; b.Loop(); i += step {
				must(b, v.Update(p, thousand(i)))
			}
			must(b, v.Teardown(context.Background(), podUID))
		})
	}
}

func TestAFileOfAUser(t *testing.T) {
	t.Parallel()
	needRoot(t)
	v := open(t)
	p, folder := payloadPod(v, projectedFolder)
	withGroup(p, 3000)
	token := File{Path: "token", Data: []byte("1"), Mode: 0o600, User: ptr.To[int64](1234)}
	must(t, v.Setup(t.Context(), p, given(token)))
	check := func(uid uint32) {
		t.Helper()
		var st unix.Stat_t
		must(t, unix.Stat(filepath.Join(folder, "token"), &st))
		if st.Uid != uid || st.Gid != 3000 || st.Mode&0o777 != 0o640 {
			t.Errorf("it is of %d:%d, mode %o", st.Uid, st.Gid, st.Mode)
		}
	}
	check(1234)
	token.User = ptr.To[int64](4321)
	must(t, v.Update(p, given(token)))
	check(4321)
	must(t, v.Teardown(context.Background(), podUID))
}
