package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func document(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheConfigurationIsToldOfInFull(t *testing.T) {
	t.Parallel()
	text := document(t, "configuration.md")
	want := func(what string) {
		t.Helper()
		if !strings.Contains(text, "`"+what+"`") {
			t.Errorf("docs/configuration.md does not name %s", what)
		}
	}
	agentCommand().Flags().VisitAll(func(f *pflag.Flag) {
		want("--" + f.Name)
		if f.DefValue != "" && f.DefValue != "[]" {
			want(f.DefValue)
		}
	})
	for _, field := range supported {
		want(field)
	}
}

// Every test that docs/met-elsewhere.md and SECURITY.md rely on is there.
func TestWhatOthersMetIsHeldByTests(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	err := filepath.WalkDir("../..", func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		content, err := os.ReadFile(path)
		for _, found := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllStringSubmatch(string(content), -1) {
			names[found[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(names) < 10 {
		t.Skip("the sources of the tests are not here")
	}
	for _, name := range []string{"met-elsewhere.md", "../SECURITY.md"} {
		for _, found := range regexp.MustCompile(`\b(Test|Fuzz)[A-Z]\w+`).FindAllString(document(t, name), -1) {
			if !names[found] {
				t.Errorf("docs/%s relies on %s, which is not there", name, found)
			}
		}
	}
}
