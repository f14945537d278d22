package manifests

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// object is a ConfigMap or a Secret with a value under the key a, and further lines.
func object(kind, name, value string, more ...string) string {
	field := "data"
	if kind == KindSecret {
		field = "stringData"
	}
	return "---\napiVersion: v1\nkind: " + kind + "\nmetadata: {name: " + name + "}\n" + field + ": {a: \"" + value + "\"}\n" + strings.Join(more, "\n") + "\n"
}

func TestObjectsAreKeptAsPodsAre(t *testing.T) {
	t.Parallel()
	o := observe(t)
	broken := strings.Replace(object(KindConfigMap, "web", "3"), "\ndata", "\ndta", 1)
	o.put("x.yaml", manifest("web", "1")+object(KindConfigMap, "web", "1")+object(KindSecret, "web", "1"))
	if got := show(o.start()); got != "web=1 map web=1 secret web=1" {
		t.Errorf("first came %s", got)
	}
	o.put("x.yaml", manifest("web", "2")+object(KindConfigMap, "web", "2")+object(KindSecret, "web", "1"))
	if came := o.until("web=2 map web=2 secret web=1"); len(came) != 1 {
		t.Errorf("a Pod and what it refers to came in %d steps", len(came))
	}
	o.put("x.yaml", manifest("web", "3")+broken)
	o.until("web=3 map web=2 kept x.yaml:web")
	o.put("y.yaml", object(KindConfigMap, "web", "4"))
	o.until("web=3 map web=2 kept x.yaml:web refused y.yaml:web")
	o.put("x.yaml", manifest("web", "3"))
	o.until("web=3 map web=4")
	o.must(os.Remove(o.path("y.yaml")))
	o.until("web=3")
}

func TestWhatIsImmutableStaysAsItIs(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{KindConfigMap, KindSecret} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			o := observe(t)
			is := func(value string) string {
				return map[string]string{KindConfigMap: "map", KindSecret: "secret"}[kind] + " x=" + value
			}
			o.put("x.yaml", object(kind, "x", "1", "immutable: true"))
			o.start()
			for edit, field := range map[string]string{
				object(kind, "x", "2", "immutable: true"): "data", object(kind, "x", "1"): "immutable", object(kind, "x", "2", "immutable: false"): "immutable",
			} {
				o.put("x.yaml", edit)
				o.until(is("1") + " kept x.yaml:x")
				if r := o.last.Refused[0]; r.Field != field || !strings.Contains(r.Reason, "field is immutable when `immutable` is set") {
					t.Errorf("refused with %s", r.Error())
				}
				o.put("x.yaml", object(kind, "x", "1", "immutable: true"))
				o.until(is("1"))
			}
			o.must(os.Remove(o.path("x.yaml")))
			o.until("")
			o.put("x.yaml", object(kind, "x", "2", "immutable: true"))
			o.until(is("2"))
		})
	}
}

func TestSecretsAreNotKeptOnDisk(t *testing.T) {
	t.Parallel()
	const memory = "/dev/shm"
	var stat unix.Statfs_t
	if err := unix.Statfs(memory, &stat); err != nil || stat.Type != unix.TMPFS_MAGIC {
		t.Skipf("%s is not in memory: %v", memory, err)
	}
	inMemory, err := os.MkdirTemp(memory, "podkeeper-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(inMemory); err != nil {
			t.Error(err)
		}
	})
	for name, c := range map[string]struct {
		secrets, after string
		kept           bool
	}{
		"in memory": {filepath.Join(inMemory, "secrets"), "web=1 secret s=hunter2 kept x.yaml:s", true},
		"nowhere":   {"", "web=1 refused x.yaml:s", false},
	} {
		t.Run(name, func(t *testing.T) {
			o := observe(t)
			o.secrets = c.secrets
			o.put("x.yaml", manifest("web", "1")+object(KindSecret, "s", "hunter2"))
			o.start()
			o.put("x.yaml", manifest("web", "1")+strings.Replace(object(KindSecret, "s", "hunter2"), "stringData", "strData", 1))
			o.until("web=1 secret s=hunter2 kept x.yaml:s")
			if found := containing(t, o.keep, "hunter2"); found != "" {
				t.Errorf("%s holds the Secret", found)
			}
			if found := containing(t, inMemory, "hunter2"); c.kept != (found != "") {
				t.Errorf("in memory it is kept in %q", found)
			}
			o.stop()
			if got := show(o.start()); got != c.after {
				t.Errorf("after a restart: %s, want %s", got, c.after)
			}
			o.must(os.Remove(o.path("x.yaml")))
			o.until("")
			if found := containing(t, inMemory, "hunter2"); found != "" {
				t.Errorf("%s is left", found)
			}
		})
	}
}

// containing is a file below a folder that holds a text, "" where there is none.
func containing(t *testing.T, dir, text string) (found string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if strings.Contains(string(data), text) {
			found = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
