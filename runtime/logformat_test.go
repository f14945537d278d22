package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// logged is what a log holds of these entries, written by whom LastLines must understand; … ends a piece of a line.
func logged(texts ...string) string {
	var entries []entry
	for _, text := range texts {
		whole, partial := strings.CutSuffix(text, "…")
		entries = append(entries, entry{text: []byte(whole), partial: partial})
	}
	return string(appendEntries(nil, time.Unix(1e9, 0), "stdout", entries))
}

func TestLastLines(t *testing.T) {
	t.Parallel()
	var many []string
	for i := range 5000 {
		many = append(many, fmt.Sprintf("line %d", i))
	}
	for sentence, r := range map[string]struct {
		content      string
		lines, limit int
		want         string
	}{
		"nothing":                              {"", 80, 2048, ""},
		"all there is":                         {logged("one", "two"), 80, 2048, "one\ntwo\n"},
		"the last lines":                       {logged("one", "two", "three"), 2, 2048, "two\nthree\n"},
		"of many":                              {logged(many...), 3, 2048, "line 4997\nline 4998\nline 4999\n"},
		"no more bytes than wanted":            {logged("one", "two", "three"), 80, 8, "o\nthree\n"},
		"of a long file":                       {logged(many...), 5000, 10, "line 4999\n"},
		"spaces are text":                      {logged(" a  b ", ""), 80, 2048, " a  b \n\n"},
		"pieces are put together":              {logged("one", "tw…", "o"), 80, 2048, "one\ntwo\n"},
		"a piece counts as a line":             {logged("one", "tw…", "o"), 1, 2048, "o\n"},
		"a line longer than what is read":      {logged("one", long(maxLogLine)), 80, 1 << 20, "one\n" + long(maxLogLine) + "\n"},
		"and its end":                          {logged("one", long(maxLogLine)), 80, 3, "xx\n"},
		"a last line that was cut off":         {logged("one") + "2001-09-09T01:46:40Z stderr F tw", 80, 2048, "one\ntw\n"},
		"what is not in the format is no line": {"what\n" + logged("one"), 80, 2048, "one\n"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "0.log")
			if err := os.WriteFile(file, []byte(r.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := LastLines(file, r.lines, r.limit); err != nil || got != r.want {
				t.Errorf("got %q, %v; want %q", got, err, r.want)
			}
		})
	}
	if _, err := LastLines(filepath.Join(t.TempDir(), "none"), 1, 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of no file: %v", err)
	}
}

// However a log is read from its end, the answer is that of reading all of it.
func FuzzLastLines(f *testing.F) {
	f.Add("one\ntw…\no\n", 2, 10, 1)
	f.Add(long(maxLogLine)+"\nend", 5, 1<<20, 3)
	f.Fuzz(func(t *testing.T, text string, lines, limit, times int) {
		if times < 0 || len(text)*times > 1<<20 || lines < 0 || limit < 0 {
			t.Skip("more than a log holds")
		}
		content := logged(strings.Split(strings.Repeat(text, times), "\n")...)
		file := filepath.Join(t.TempDir(), "0.log")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := LastLines(file, lines, limit)
		whole := tail([]byte(content), lines)
		if want := string(whole[max(0, len(whole)-limit):]); err != nil || got != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	})
}
