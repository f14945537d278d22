package manifests

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// observer runs Watch on a folder of its own and sees every Set.
type observer struct {
	testing.TB
	dir, keep string
	secrets   string
	sets      chan Set
	last      Set
	fences    int
	stop      func()
}

func observe(t testing.TB) *observer {
	t.Helper()
	root := t.TempDir()
	o := &observer{TB: t, dir: filepath.Join(root, "manifests"), keep: filepath.Join(root, "kept")}
	o.must(os.Mkdir(o.dir, 0o755))
	return o
}

// start starts Watch, at first or again, and waits for the first Set.
func (o *observer) start() Set {
	o.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	sets, ended := make(chan Set, 1000), make(chan error, 1)
	o.sets = sets
	go func() {
		ended <- Watch(ctx, Config{Dir: o.dir, KeepDir: o.keep, SecretDir: o.secrets, Rescan: time.Minute, Trust: notOthers}, func(s Set) { sets <- s })
	}()
	stopped := false
	o.stop = func() {
		if cancel(); !stopped {
			stopped = true
			o.must(<-ended)
		}
	}
	o.Cleanup(o.stop)
	return o.next()
}

// notOthers trusts what others may not write, and what is gone.
func notOthers(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || info.Mode().Perm()&0o002 == 0 {
		return err
	}
	return errors.New("others may write it")
}

func (o *observer) next() Set {
	o.Helper()
	select {
	case o.last = <-o.sets:
	case <-time.After(20 * time.Second):
		o.Fatalf("no Set came; the last one was %s", show(o.last))
	}
	return o.last
}

// until waits for a Set that shows as wanted, and answers all that came up to it.
func (o *observer) until(want string) []Set {
	o.Helper()
	var came []Set
	for {
		select {
		case o.last = <-o.sets:
			came = append(came, o.last)
			if show(o.last) == want {
				return came
			}
		case <-time.After(20 * time.Second):
			o.Fatalf("want %s, the last Set was %s", want, show(o.last))
		}
	}
}

// fence makes sure that everything done before was looked at: a Pod put in now is only seen after it.
func (o *observer) fence() []Set {
	o.Helper()
	o.fences++
	name := fmt.Sprintf("fence%d", o.fences)
	o.put(name+".yaml", manifest(name))
	var came []Set
	for {
		set := o.next()
		if slices.ContainsFunc(set.Pods, func(p Pod) bool { return p.Name == name }) {
			o.must(os.Remove(o.path(name + ".yaml")))
			for slices.ContainsFunc(o.next().Pods, func(p Pod) bool { return p.Name == name }) {
				came = append(came, o.last)
			}
			return came
		}
		came = append(came, set)
	}
}

// show is the args of each Pod's first container, what objects have under the key a, the faults and the error of a Set, in one line.
func show(s Set) string {
	var parts []string
	for _, p := range s.Pods {
		parts = append(parts, p.Name+"="+strings.Join(p.Spec.Containers[0].Args, "+"))
	}
	for _, object := range s.Objects {
		switch o := object.Object.(type) {
		case *v1.ConfigMap:
			parts = append(parts, fmt.Sprintf("map %s=%s", o.Name, o.Data["a"]))
		case *v1.Secret:
			parts = append(parts, fmt.Sprintf("secret %s=%s", o.Name, o.Data["a"]))
		}
	}
	for _, r := range s.Refused {
		word := "refused"
		if r.Kept {
			word = "kept"
		}
		parts = append(parts, fmt.Sprintf("%s %s:%s", word, filepath.Base(r.File), r.Of.Name))
	}
	if s.Err != nil {
		parts = append(parts, "unreadable")
	}
	return strings.Join(parts, " ")
}

func (o *observer) must(err error) {
	o.Helper()
	if err != nil {
		o.Fatal(err)
	}
}

func (o *observer) path(name string) string { return filepath.Join(o.dir, name) }

// put makes a file appear whole.
func (o *observer) put(name, content string) {
	o.Helper()
	o.write("."+name+".new", content)
	o.must(os.Rename(o.path("."+name+".new"), o.path(name)))
}

func (o *observer) write(name, content string) {
	o.Helper()
	o.must(os.WriteFile(o.path(name), []byte(content), 0o644))
}

func (o *observer) run(name string, args ...string) {
	o.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = o.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		o.Fatalf("%s: %v: %s", name, err, out)
	}
}

func TestEveryWayToEditAFileIsOneUpdate(t *testing.T) {
	t.Parallel()
	edited := manifest("web", "new")
	for name, edit := range map[string]func(o *observer){
		"a rename into place": func(o *observer) { o.put("web.yaml", edited) },
		"a rename from a backup-like name": func(o *observer) {
			o.write("web.yaml.tmp", edited)
			o.must(os.Rename(o.path("web.yaml.tmp"), o.path("web.yaml")))
		},
		"a write in place": func(o *observer) { o.write("web.yaml", edited) },
		"vim": func(o *observer) {
			o.write(".web.yaml.swp", "b0VIM")
			o.write("4913", "")
			o.must(os.Remove(o.path("4913")))
			o.must(os.Rename(o.path("web.yaml"), o.path("web.yaml~")))
			o.write("web.yaml", edited)
			o.must(os.Remove(o.path("web.yaml~")))
			o.must(os.Remove(o.path(".web.yaml.swp")))
		},
		"removed and written anew": func(o *observer) {
			o.must(os.Remove(o.path("web.yaml")))
			o.write("web.yaml", edited)
		},
		"truncated and written in pieces": func(o *observer) {
			file, err := os.OpenFile(o.path("web.yaml"), os.O_WRONLY|os.O_TRUNC, 0)
			o.must(err)
			if came := o.fence(); len(came) > 0 {
				o.Errorf("a truncated file was acted upon: %s", show(came[0]))
			}
			// The first half is a manifest as well, and a wrong one.
			half := strings.Index(edited, "    args")
			_, err = file.WriteString(edited[:half])
			o.must(err)
			if came := o.fence(); len(came) > 0 {
				o.Errorf("half a file was acted upon: %s", show(came[0]))
			}
			_, err = file.WriteString(edited[half:])
			o.must(err)
			o.must(file.Close())
		},
		"a symlink to another file": func(o *observer) {
			o.write("../web.new", edited)
			o.must(os.Symlink("../web.new", o.path(".link")))
			o.must(os.Rename(o.path(".link"), o.path("web.yaml")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			oneUpdate(t, edit)
		})
	}
}

// TestEveryProgramThatEditsAFileMakesOneUpdate runs beside no other test: a process that is being started holds, until
// it is the other program, every file that the tests have open, and so keeps writers and readers of them waiting.
func TestEveryProgramThatEditsAFileMakesOneUpdate(t *testing.T) {
	for name, command := range map[string][]string{
		"cp":                    {"cp", "../web.new", "web.yaml"},
		"mv":                    {"mv", "../web.new", "web.yaml"},
		"sed -i":                {"sed", "-i", "s/old/new/", "web.yaml"},
		"a shell's redirection": {"sh", "-c", "cat ../web.new > web.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			oneUpdate(t, func(o *observer) {
				o.write("../web.new", manifest("web", "new"))
				o.run(command[0], command[1:]...)
			})
		})
	}
}

// oneUpdate expects that an edit of web.yaml from old to new is one Set.
func oneUpdate(t *testing.T, edit func(o *observer)) {
	t.Helper()
	o := observe(t)
	o.write("web.yaml", manifest("web", "old"))
	if got := show(o.start()); got != "web=old" {
		t.Fatalf("first Set: %s", got)
	}
	edit(o)
	if came := o.until("web=new"); len(came) != 1 {
		t.Errorf("%d Sets instead of one, the first was %s %v", len(came), show(came[0]), came[0].Refused)
	}
	if came := o.fence(); len(came) > 0 {
		t.Errorf("another Set: %s", show(came[0]))
	}
}

func TestDataDirectorySwap(t *testing.T) {
	t.Parallel()
	o := observe(t)
	for version, word := range map[string]string{"..v1": "old", "..v2": "new"} {
		o.must(os.Mkdir(o.path(version), 0o755))
		o.write(version+"/web.yaml", manifest("web", word))
	}
	o.must(os.Symlink("..v1", o.path("..data")))
	o.must(os.Symlink("..data/web.yaml", o.path("web.yaml")))
	o.start()
	o.must(os.Symlink("..v2", o.path("..tmp")))
	o.must(os.Rename(o.path("..tmp"), o.path("..data")))
	if came := o.until("web=new"); len(came) != 1 {
		t.Errorf("%d Sets instead of one", len(came))
	}
}

func TestOnlyManifestsAreRead(t *testing.T) {
	t.Parallel()
	o := observe(t)
	for _, name := range []string{"web.yaml~", "web.yaml.bak", ".web.yaml", "4913", "web.yaml.swp", "web.txt", "~web.yaml", "web.YAML.orig"} {
		o.write(name, manifest("web"))
	}
	o.must(os.Mkdir(o.path("sub"), 0o755))
	o.write("sub/web.yaml", manifest("web"))
	o.write("a.yaml", manifest("a"))
	o.write("b.yml", manifest("b"))
	o.write("c.json", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"c"},"spec":{"containers":[{"name":"a","image":"b"}]}}`)
	if got := show(o.start()); got != "a= b= c=" {
		t.Errorf("read %s", got)
	}
}

func TestABrokenFileKeepsItsPod(t *testing.T) {
	t.Parallel()
	good := manifest("web", "old")
	for name, c := range map[string]struct {
		breaks func(o *observer)
		want   string
	}{
		"a typo":        {func(o *observer) { o.put("web.yaml", strings.Replace(good, "image", "imgae", 1)) }, "web=old kept web.yaml:web"},
		"no YAML":       {func(o *observer) { o.put("web.yaml", "{") }, "web=old kept web.yaml:"},
		"an empty file": {func(o *observer) { o.write("web.yaml", "") }, "web=old kept web.yaml:"},
		"binary junk":   {func(o *observer) { o.put("web.yaml", "\x00") }, "web=old kept web.yaml:"},
		"a file that others may write": {func(o *observer) {
			o.must(os.Chmod(o.path("web.yaml"), 0o666))
			o.write("web.yaml", manifest("web", "theirs"))
		}, "web=old kept web.yaml:"},
		"a dangling link": {func(o *observer) {
			o.must(os.Remove(o.path("web.yaml")))
			o.must(os.Symlink("nowhere", o.path("web.yaml")))
		}, "web=old kept web.yaml:"},
		"a folder": {func(o *observer) { o.must(os.Remove(o.path("web.yaml"))); o.must(os.Mkdir(o.path("web.yaml"), 0o755)) }, "web=old kept web.yaml:"},
		"a named pipe": {func(o *observer) {
			o.must(os.Remove(o.path("web.yaml")))
			o.must(unix.Mkfifo(o.path("web.yaml"), 0o600))
		}, "web=old kept web.yaml:"},
		"another document": {func(o *observer) {
			o.put("web.yaml", manifest("new")+"---\n"+strings.Replace(good, "image", "imgae", 1))
		}, "new= web=old kept web.yaml:web"},
		"a Pod of another name, broken": {func(o *observer) {
			o.put("web.yaml", strings.Replace(manifest("other"), "image", "imgae", 1))
		}, "refused web.yaml:other"},
		"a UID that is taken": {func(o *observer) {
			o.put("a.yaml", strings.Replace(manifest("a"), "name: a", "name: a\n  uid: x", 1))
			o.until("a= web=old")
			o.put("web.yaml", strings.Replace(manifest("web", "new"), "name: web", "name: web\n  uid: x", 1))
		}, "a= web=old kept web.yaml:web"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := observe(t)
			o.put("web.yaml", good)
			o.start()
			c.breaks(o)
			o.until(c.want)
			o.stop()
			if got := show(o.start()); got != c.want {
				t.Errorf("after a restart: %s, want %s", got, c.want)
			}
			o.must(os.RemoveAll(o.path("web.yaml")))
			o.put("web.yaml", manifest("web", "mended"))
			o.until(strings.TrimPrefix(strings.Join([]string{strings.Repeat("a= ", strings.Count(c.want, "a= ")), "web=mended"}, ""), " "))
		})
	}
}

func TestDocumentsKeptFromSeveralVersions(t *testing.T) {
	t.Parallel()
	o := observe(t)
	a, b := func(w string) string { return manifest("a", w) }, func(w string) string { return manifest("b", w) }
	broken := func(text string) string { return strings.Replace(text, "image", "imgae", 1) }
	o.put("x.yaml", a("1")+"---\n"+b("1"))
	o.start()
	o.put("x.yaml", a("2")+"---\n"+broken(b("2")))
	o.until("a=2 b=1 kept x.yaml:b")
	o.put("x.yaml", broken(a("3"))+"---\n"+broken(b("3")))
	o.until("a=2 b=1 kept x.yaml:a kept x.yaml:b")
	o.stop()
	if got := show(o.start()); got != "a=2 b=1 kept x.yaml:a kept x.yaml:b" {
		t.Errorf("after a restart: %s", got)
	}
	o.put("x.yaml", broken(a("3")))
	o.until("a=2 kept x.yaml:a")
	o.put("x.yaml", a("4"))
	o.until("a=4")
}

func TestTheCopyIsTheFileByteForByte(t *testing.T) {
	t.Parallel()
	o := observe(t)
	content := "# mine\n" + manifest("a") + "---\n# nothing\n---\n" + manifest("b") + "# end"
	o.put("x.yaml", content)
	o.start()
	kept, err := os.ReadFile(filepath.Join(o.keep, "x.yaml"))
	o.must(err)
	if string(kept) != content {
		t.Errorf("kept %q", kept)
	}
	o.must(os.Remove(o.path("x.yaml")))
	o.until("")
	left, err := list(o.keep)
	o.must(err)
	if len(left) > 0 {
		t.Errorf("still kept: %v", left)
	}
}

func TestARenamedFileIsTheSamePod(t *testing.T) {
	t.Parallel()
	o := observe(t)
	o.put("a.yaml", manifest("web", "old"))
	o.start()
	o.must(os.Rename(o.path("a.yaml"), o.path("b.yaml")))
	if set := o.next(); show(set) != "web=old" || filepath.Base(set.Pods[0].File) != "b.yaml" {
		t.Errorf("after the rename: %s", show(set))
	}
	for _, broken := range []string{"{", strings.Replace(manifest("web"), "image", "imgae", 1)} {
		o.put("b.yaml", broken)
		for show(o.next()) == "web=old" {
		}
		o.must(os.Rename(o.path("b.yaml"), o.path("c.yaml")))
		for len(o.last.Refused) == 0 || filepath.Base(o.last.Refused[0].File) != "c.yaml" || !o.last.Refused[0].Kept {
			if o.next(); !strings.HasPrefix(show(o.last), "web=old") {
				t.Fatalf("the rename of a broken file took its Pod away: %s", show(o.last))
			}
		}
		o.must(os.Rename(o.path("c.yaml"), o.path("b.yaml")))
		o.fence()
		if !strings.HasPrefix(show(o.last), "web=old kept b.yaml") {
			t.Fatalf("after the rename back: %s", show(o.last))
		}
	}
}

func TestTheSamePodInTwoFiles(t *testing.T) {
	t.Parallel()
	o := observe(t)
	o.put("b.yaml", manifest("web", "b"))
	o.start()
	o.put("a.yaml", manifest("web", "a"))
	o.until("web=b refused a.yaml:web")
	if want := "a.yaml:4: metadata.name: Pod default/web is already defined at " + o.path("b.yaml") + ":4"; !strings.Contains(o.last.Refused[0].Error(), want) {
		t.Errorf("%s does not say %s", o.last.Refused[0], want)
	}
	o.put("b.yaml", manifest("web", "b2"))
	o.until("web=b2 refused a.yaml:web")
	o.stop()
	if got := show(o.start()); got != "web=b2 refused a.yaml:web" {
		t.Errorf("after a restart: %s", got)
	}
	o.put("b.yaml", "{")
	o.until("web=b2 refused a.yaml:web kept b.yaml:")
	o.must(os.Remove(o.path("b.yaml")))
	o.until("web=a")
}

func TestTheDirectory(t *testing.T) {
	t.Parallel()
	t.Run("was never there, then is", func(t *testing.T) {
		t.Parallel()
		o := observe(t)
		dir := o.dir
		o.dir = filepath.Join(dir, "deep", "below")
		if got := show(o.start()); got != "unreadable" {
			t.Errorf("first Set: %s", got)
		}
		o.must(os.MkdirAll(o.dir, 0o755))
		o.put("web.yaml", manifest("web", "x"))
		o.until("web=x")
	})
	t.Run("goes and comes back", func(t *testing.T) {
		t.Parallel()
		o := observe(t)
		o.put("web.yaml", manifest("web", "old"))
		o.start()
		away := o.dir + ".away"
		for range 3 {
			o.must(os.Rename(o.dir, away))
			o.until("web=old unreadable")
			o.must(os.Rename(away, o.dir))
			o.until("web=old")
		}
		o.must(os.RemoveAll(o.dir))
		o.until("web=old unreadable")
		o.stop()
		if got := show(o.start()); got != "web=old unreadable" {
			t.Errorf("after a restart: %s", got)
		}
		o.must(os.Mkdir(o.dir, 0o755))
		o.put("web.yaml", manifest("web", "new"))
		o.until("web=new")
		o.put("web.yaml", manifest("web", "newer"))
		o.until("web=newer")
	})
	t.Run("is a symlink that is swapped", func(t *testing.T) {
		t.Parallel()
		o := observe(t)
		link := o.dir + ".link"
		real := o.dir
		o.must(os.Mkdir(real+"2", 0o755))
		o.write("web.yaml", manifest("web", "1"))
		o.must(os.WriteFile(real+"2/web.yaml", []byte(manifest("web", "2")), 0o644))
		o.must(os.Symlink(real, link))
		o.dir = link
		o.start()
		o.must(os.Symlink(real+"2", link+".new"))
		o.must(os.Rename(link+".new", link))
		if came := o.until("web=2"); len(came) != 1 {
			t.Errorf("%d Sets instead of one", len(came))
		}
		o.put("web.yaml", manifest("web", "3"))
		o.until("web=3")
	})
	t.Run("is on a file system that is unmounted", func(t *testing.T) {
		t.Parallel()
		o := observe(t)
		disk := o.dir + ".disk"
		o.must(os.Mkdir(disk, 0o755))
		mount := func() {
			if err := unix.Mount(disk, o.dir, "", unix.MS_BIND, ""); err != nil {
				t.Skipf("nothing can be mounted: %v", err)
			}
		}
		unmount := func() { o.must(unix.Unmount(o.dir, unix.MNT_DETACH)) }
		mount()
		t.Cleanup(func() { _ = unix.Unmount(o.dir, unix.MNT_DETACH) })
		o.put("web.yaml", manifest("web", "old"))
		if got := show(o.start()); got != "web=old" {
			t.Errorf("first Set: %s", got)
		}
		unmount()
		o.until("web=old unreadable")
		o.stop()
		if got := show(o.start()); got != "web=old unreadable" {
			t.Errorf("after a restart: %s", got)
		}
		mount()
		o.until("web=old")
		o.must(os.Remove(o.path("web.yaml")))
		o.until("")
		o.put("web.yaml", manifest("web", "new"))
		o.until("web=new")
		unmount()
		o.put("other.yaml", manifest("other", "here"))
		o.until("other=here")
	})
	t.Run("is no directory", func(t *testing.T) {
		t.Parallel()
		o := observe(t)
		o.must(os.Remove(o.dir))
		o.must(os.WriteFile(o.dir, nil, 0o644))
		if got := show(o.start()); got != "unreadable" {
			t.Errorf("first Set: %s", got)
		}
	})
}

func TestAFileThatStaysOpenIsReadInTheEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "web.yaml")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString(manifest("web")); err != nil {
		t.Fatal(err)
	}
	s := scanner{dir: dir, mounted: &mounted{}, files: make(map[string]*tracked)}
	now := time.Now()
	for _, step := range []struct {
		after time.Duration
		read  bool
	}{{0, false}, {writeWait / 2, false}, {writeWait, true}} {
		if err := s.scan(now.Add(step.after)); err != nil {
			t.Fatal(err)
		}
		if got := s.files["web.yaml"].presence == present; got != step.read {
			t.Errorf("after %s: read is %t", step.after, got)
		}
	}
}

func TestAFileThatIsBackIsNoDanglingLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, c := range map[string]struct {
		make func(path string) error
		want bool
	}{
		"nothing is there":       {func(string) error { return nil }, true},
		"a file came back":       {func(path string) error { return os.WriteFile(path, nil, 0o600) }, true},
		"a link leads to a file": {func(path string) error { return os.Symlink("/dev/null", path) }, true},
		"a link leads nowhere":   {func(path string) error { return os.Symlink("nowhere", path) }, false},
	} {
		path := filepath.Join(dir, name)
		if err := c.make(path); err != nil {
			t.Fatal(err)
		}
		if got := vanished(path, fmt.Errorf("open: %w", os.ErrNotExist)); got != c.want {
			t.Errorf("%s: vanished is %t", name, got)
		}
	}
}

func TestAWriterWaitsForTheReaderAndHarmsNobody(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "web.yaml")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_RDLCK); err != nil {
		t.Skipf("this file system has no leases: %v", err)
	}
	// The kernel tells the reader by SIGIO, which must not end the process.
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK, 0)
	if err == nil {
		err = unix.Close(fd)
	}
	if !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("a writer came in between: %v", err)
	}
}

func TestWithoutEventsTheClockDoes(t *testing.T) {
	t.Parallel()
	o := observe(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := newWatcher(Config{Dir: o.dir, Rescan: time.Millisecond}, func(s Set) {
		if show(s) == "web=x" {
			cancel()
			return
		}
		o.put("web.yaml", manifest("web", "x"))
	})
	w.events.close()
	w.events.notify = nil
	w.run(ctx)
}

func TestLostEventsAreMadeUpForByALook(t *testing.T) {
	t.Parallel()
	o := observe(t)
	e := newEvents(o.dir, nil)
	defer e.close()
	go func() { e.notify.Errors <- fsnotify.ErrEventOverflow }()
	began := time.Now()
	if e.wait(context.Background(), time.Hour); time.Since(began) > time.Minute {
		t.Error("nobody looked")
	}
}

func TestNeighboursOfTheDirectoryWakeNobody(t *testing.T) {
	t.Parallel()
	e := events{dir: "/etc/podkeeper/manifests"}
	for name, want := range map[string]bool{
		"/etc/podkeeper/manifests/web.yaml": true, "/etc/podkeeper/manifests/..data": true, "/etc/podkeeper": true, "/etc": true,
		"/etc/podkeeper/manifests2": false, "/etc/podkeeper/config": false, "/etc/pod": false,
	} {
		if got := e.concerns(fsnotify.Event{Name: name}); got != want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestFoldersThatMakeNoSense(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{{}, {Dir: "/x", KeepDir: "/x/"}} {
		if err := Watch(context.Background(), cfg, nil); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
}

// BenchmarkRenameToDeliver is what a user waits from a manifest's appearance until the agent knows of it.
func BenchmarkRenameToDeliver(b *testing.B) {
	o := observe(b)
	for i := range 50 {
		o.put(fmt.Sprintf("other%d.yaml", i), manifest(fmt.Sprintf("other%d", i)))
	}
	o.start()
	words := []string{"a", "b"}
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		o.write(".new", manifest("web", words[i%2]))
		b.StartTimer()
		o.must(os.Rename(o.path(".new"), o.path("web.yaml")))
		o.next()
	}
	o.stop()
}

// BenchmarkLook is one look at a directory of many files, after something happened to each of them that pick has to
// settle.
func BenchmarkLook(b *testing.B) {
	breakIt := func(o *observer, file, pod string) {
		o.write(file, strings.Replace(manifest(pod), "image", "imgae", 1))
		o.must(os.Chtimes(o.path(file), time.Time{}, time.Now().Add(-time.Minute)))
	}
	for name, happens := range map[string]func(o *observer, file, pod string){
		"nothing": func(*observer, string, string) {},
		"broken":  breakIt,
		"renamed": func(o *observer, file, _ string) { o.must(os.Rename(o.path(file), o.path("moved"+file))) },
		"renamed and broken": func(o *observer, file, pod string) {
			o.must(os.Rename(o.path(file), o.path("moved"+file)))
			breakIt(o, "moved"+file, pod)
		},
	} {
		for _, count := range []int{100, 1000} {
			b.Run(fmt.Sprintf("%s %d", name, count), func(b *testing.B) { benchmarkLook(b, count, happens) })
		}
	}
}

func benchmarkLook(b *testing.B, count int, happens func(o *observer, file, pod string)) {
	b.StopTimer()
	for range b.N {
		o := observe(b)
		for i := range count {
			pod := fmt.Sprintf("pod%d", i)
			o.write(pod+".yaml", manifest(pod))
		}
		w := newWatcher(Config{Dir: o.dir}, func(s Set) { o.last = s })
		w.look(time.Now())
		for i := range count {
			pod := fmt.Sprintf("pod%d", i)
			happens(o, pod+".yaml", pod)
		}
		w.scanner.changed = true
		b.StartTimer()
		w.look(time.Now())
		b.StopTimer()
		w.events.close()
		if len(o.last.Pods) != count {
			b.Fatalf("%d Pods of %d", len(o.last.Pods), count)
		}
	}
}
