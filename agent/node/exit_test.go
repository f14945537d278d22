package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestTerminationMessages(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]int{1: 4096, 3: 4096, 4: 3072, 12: 1024} {
		pod := &v1.Pod{Spec: v1.PodSpec{Containers: make([]v1.Container, n)}}
		if got := messageLimit(pod); got != want {
			t.Errorf("of %d containers: %d bytes each, want %d", n, got, want)
		}
	}
	file := filepath.Join(t.TempDir(), "message")
	if got := head(file, 10); got != "" {
		t.Errorf("of no file: %q", got)
	}
	if err := os.WriteFile(file, []byte("0123456789abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := head(file, 10); got != "0123456789" {
		t.Errorf("got %q", got)
	}
}

func TestLastLines(t *testing.T) {
	t.Parallel()
	const at = "2026-11-23T12:00:00.000000000Z "
	many := func(n int) string { return strings.Repeat(at+"stdout F line\n", n) }
	for sentence, r := range map[string]struct {
		log   string
		limit int
		want  string
	}{
		"nothing":                          {"", 100, ""},
		"both streams":                     {at + "stdout F one\n" + at + "stderr F two  words\n", 100, "one\ntwo  words\n"},
		"an empty line":                    {at + "stdout F \n", 100, "\n"},
		"a last line without its end":      {at + "stdout F one\n" + at + "stdout F tw", 100, "one\ntw\n"},
		"the end when it is long":          {at + "stdout F 0123456789\n", 5, "6789\n"},
		"no more than 80 lines":            {many(100), 1 << 20, strings.Repeat("line\n", 80)},
		"what is no line of a log is none": {"garbage\n" + at + "stdout F one\n", 100, "one\n"},
		"pieces of a long line are one":    {at + "stdout P one\n" + at + "stdout F two\n", 100, "onetwo\n"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "log")
			if err := os.WriteFile(file, []byte(r.log), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := lastLines(file, r.limit); got != r.want {
				t.Errorf("got %q, want %q", got, r.want)
			}
		})
	}
	if got := lastLines(filepath.Join(t.TempDir(), "none"), 10); got != "" {
		t.Errorf("of no file: %q", got)
	}
}

func FuzzLastLines(f *testing.F) {
	f.Add([]byte("2026-11-23T12:00:00Z stdout F one\n"), 10)
	f.Add([]byte("2026-11-23T12:00:00Z stderr P one\n2026-11-23T12:00:00Z stderr F two"), 3)
	f.Add([]byte("a b c d e\n\n \n"), 100)
	file := filepath.Join(f.TempDir(), "log")
	f.Fuzz(func(t *testing.T, log []byte, limit int) {
		if limit < 0 || limit > 1<<16 {
			t.Skip("limits are the agent's own")
		}
		if err := os.WriteFile(file, log, 0o600); err != nil {
			t.Fatal(err)
		}
		got := lastLines(file, limit)
		if len(got) > limit {
			t.Errorf("%d bytes, limit %d", len(got), limit)
		}
		if strings.Count(got, "\n") > maxMessageLines {
			t.Errorf("%d lines", strings.Count(got, "\n"))
		}
	})
}
