package manifests

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write what is answered into testdata/refusals")

// refusal is a broken manifest with every message its author gets, and the Pods that are fit to run all the same.
//
// Most of them are files in testdata/refusals: a sentence that says what the case shows, then manifest.yaml, want and,
// where there are any, pods. The words after "Invalid value:" and the like are Kubernetes' own.
type refusal struct {
	name     string
	manifest []byte
	want     []string
	pods     []string
}

// noText are manifests that no text file can hold, or none that anybody wants.
var noText = []refusal{
	{
		name: "eleven megabytes", manifest: bytes.Repeat([]byte("# filler\n"), 11<<20/9),
		want: []string{"x.yaml: too large: a manifest file has at most 10 MiB"},
	},
	{name: "UTF-16", manifest: []byte("\xff\xfek\x00"), want: []string{"x.yaml: UTF-16 text: save it as UTF-8"}},
	{
		name: "a byte that is no UTF-8", manifest: []byte("kind: \xff\n"),
		want: []string{"x.yaml: not a text file: a manifest is YAML or JSON in UTF-8"},
	},
	{
		name: "binary junk", manifest: []byte("\x00\x01\x7fELF"),
		want: []string{"x.yaml: not a text file: a manifest is YAML or JSON in UTF-8"},
	},
}

// refusals are all cases.
func refusals(t testing.TB) []refusal {
	t.Helper()
	files, err := filepath.Glob("testdata/refusals/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	all := slices.Clone(noText)
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c := refusal{name: string(bytes.TrimSpace(archive.Comment))}
		judged := false
		for _, f := range archive.Files {
			switch f.Name {
			case "manifest.yaml":
				c.manifest = f.Data
			case "want":
				c.want, judged = lines(f.Data), true
			case "pods":
				c.pods = lines(f.Data)
			default:
				t.Errorf("%s has a file %s", file, f.Name)
			}
		}
		if c.name == "" || c.manifest == nil || !judged && !*update {
			t.Errorf("%s lacks a sentence, manifest.yaml or want", file)
		}
		if *update {
			c.write(t, file)
		}
		all = append(all, c)
	}
	return all
}

func lines(text []byte) []string {
	var all []string
	for line := range strings.Lines(string(text)) {
		all = append(all, strings.TrimSuffix(line, "\n"))
	}
	return all
}

// write makes what is answered what is wanted.
func (c *refusal) write(t testing.TB, file string) {
	t.Helper()
	pods, refused := decodePods("x.yaml", c.manifest)
	c.want, c.pods = messages(refused), names(pods)
	archive := &txtar.Archive{Comment: []byte(c.name + "\n"), Files: []txtar.File{
		{Name: "manifest.yaml", Data: c.manifest}, {Name: "want", Data: []byte(strings.Join(c.want, "\n"))},
	}}
	if len(c.pods) > 0 {
		archive.Files = append(archive.Files, txtar.File{Name: "pods", Data: []byte(strings.Join(c.pods, "\n"))})
	}
	if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, c := range refusals(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			pods, refused := decodePods("x.yaml", c.manifest)
			if diff := cmp.Diff(c.want, messages(refused)); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.pods, names(pods)); diff != "" {
				t.Errorf("Pods (-want +got):\n%s", diff)
			}
			if strings.Contains(strings.Join(messages(refused), ""), "\n") {
				t.Error("a message has more than one line")
			}
		})
	}
}

func messages(refused []Refusal) []string {
	var all []string
	for _, r := range refused {
		all = append(all, r.Error())
	}
	return all
}

func names(pods []Pod) []string {
	var all []string
	for _, p := range pods {
		all = append(all, p.Namespace+"/"+p.Name)
	}
	slices.Sort(all)
	return all
}
