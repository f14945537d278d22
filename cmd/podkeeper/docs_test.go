//go:build docs

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// written is what `podkeeper docs` writes into a file.
func written(t *testing.T, file string) string {
	t.Helper()
	dir := t.TempDir()
	if err := writeDocs(command(), dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheManPageHasEveryFlagOfTheAgent(t *testing.T) {
	t.Parallel()
	page := written(t, "man/podkeeper-agent.1")
	count := 0
	agentCommand().Flags().VisitAll(func(f *pflag.Flag) {
		if !strings.Contains(page, `\fB--`+f.Name+`\fP`) || !strings.Contains(page, f.Usage) {
			t.Errorf("--%s is not told of", f.Name)
		}
		count++
	})
	if hostname, err := os.Hostname(); err != nil || strings.Contains(page, `"`+hostname+`"`) || count == 0 {
		t.Errorf("%d flags; the page tells of the host that it was made on: %s", count, hostname)
	}
}

func TestManPagesKeepTables(t *testing.T) {
	t.Parallel()
	page := written(t, "man/podkeeper-doctor.1")
	if !strings.Contains(page, ".EX\nok     what is there\nwarn   Pods run") {
		t.Errorf("the table of doctor is running text:\n%s", page)
	}
}

func TestShellsAreToldHowToComplete(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		"podkeeper": "__start_podkeeper podkeeper", "_podkeeper": "#compdef podkeeper", "podkeeper.fish": "complete -c podkeeper",
	} {
		if !strings.Contains(written(t, "completions/"+file), want) {
			t.Errorf("%s has no %q", file, want)
		}
	}
}
