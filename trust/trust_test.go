package trust

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestPath(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("files that belong to others need root")
	}
	const somebody = 12345
	for sentence, r := range map[string]struct {
		make func(dir string) error
		path string // below dir
		want string // what is refused, below dir; empty where nothing is
		why  string
	}{
		"a file of root's in folders of root's":          {nil, "etc/file", "", ""},
		"what does not exist is as good as its folder":   {nil, "etc/none/none", "", ""},
		"a file that all may write":                      {mode("etc/file", 0o666), "etc/file", "etc/file", "mode 0666"},
		"one that a group may write":                     {both(mode("etc/file", 0o664), group("etc/file", somebody)), "etc/file", "etc/file", "chmod go-w"},
		"one that root's group may write":                {mode("etc/file", 0o664), "etc/file", "", ""},
		"one that only others may read":                  {mode("etc/file", 0o604), "etc/file", "", ""},
		"a file of somebody else's":                      {owner("etc/file", somebody), "etc/file", "etc/file", "belongs to user 12345"},
		"its folder may be written":                      {mode("etc", 0o777), "etc/file", "etc", "mode 0777"},
		"a folder further up may":                        {both(mode(".", 0o775), group(".", somebody)), "etc/file", ".", "mode 0775"},
		"its folder is somebody else's":                  {owner("etc", somebody), "etc/file", "etc", "chown root"},
		"a folder itself":                                {mode("etc", 0o777), "etc", "etc", "mode 0777"},
		"what does not exist in a folder of all":         {mode("etc", 0o777), "etc/none", "etc", "mode 0777"},
		"a file of root's in a sticky folder":            {mode("etc", 0o777|os.ModeSticky), "etc/file", "", ""},
		"a sticky folder":                                {mode("etc", 0o777|os.ModeSticky), "etc", "", ""},
		"a file of somebody else's in a sticky folder":   {both(mode("etc", 0o777|os.ModeSticky), owner("etc/file", somebody)), "etc/file", "etc/file", "user 12345"},
		"somebody else's sticky folder":                  {both(owner("etc", somebody), mode("etc", 0o777|os.ModeSticky)), "etc/file", "etc", "user 12345"},
		"a sticky file is no sticky folder":              {mode("etc/file", 0o666|os.ModeSticky), "etc/file", "etc/file", "mode 0666"},
		"a symlink to a file of root's":                  {link("etc/file", "link"), "link", "", ""},
		"a symlink to what others may write":             {both(link("etc/file", "link"), mode("etc/file", 0o666)), "link", "etc/file", "mode 0666"},
		"a symlink into a folder that others may write":  {both(link("etc/file", "link"), mode("etc", 0o777)), "link", "etc", "mode 0777"},
		"a symlink of somebody else's to a file of root": {both(link("etc/file", "link"), owner("link", somebody)), "link", "link", "user 12345"},
		"a symlink on the way":                           {both(link("etc", "dir"), mode("etc/file", 0o666)), "dir/file", "etc/file", "mode 0666"},
		".. after a symlink is the target's parent": {
			both(both(link("deep/er", "dir"), folder("deep/er")), mode("deep", 0o777)), "dir/../none", "deep", "mode 0777",
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := both(folder("etc"), write("etc/file"))(dir); err != nil {
				t.Fatal(err)
			}
			if r.make != nil {
				if err := r.make(dir); err != nil {
					t.Fatal(err)
				}
			}
			err := Path(dir + "/" + r.path)
			if r.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.HasPrefix(err.Error(), filepath.Join(dir, r.want)+" ") || !strings.Contains(err.Error(), r.why) {
				t.Errorf("%v, want %s: %s", err, r.want, r.why)
			}
		})
	}
}

func TestALoopOfSymlinksEnds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := link("loop", "loop")(dir); err != nil {
		t.Fatal(err)
	}
	if err := Path(filepath.Join(dir, "loop")); err == nil || !strings.Contains(err.Error(), syscall.ELOOP.Error()) {
		t.Errorf("%v", err)
	}
}

// Steps that make a tree below a folder.

type step = func(dir string) error

func both(a, b step) step {
	return func(dir string) error {
		if err := a(dir); err != nil {
			return err
		}
		return b(dir)
	}
}

func folder(name string) step {
	return func(dir string) error { return os.MkdirAll(filepath.Join(dir, name), 0o755) }
}

func write(name string) step {
	return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), nil, 0o644) }
}

func mode(name string, mode os.FileMode) step {
	return func(dir string) error { return os.Chmod(filepath.Join(dir, name), mode) }
}

func owner(name string, uid int) step {
	return func(dir string) error { return os.Lchown(filepath.Join(dir, name), uid, -1) }
}

func group(name string, gid int) step {
	return func(dir string) error { return os.Lchown(filepath.Join(dir, name), -1, gid) }
}

func link(to, name string) step {
	return func(dir string) error { return os.Symlink(to, filepath.Join(dir, name)) }
}
