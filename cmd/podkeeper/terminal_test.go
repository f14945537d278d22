package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatATerminalIsShown(t *testing.T) {
	t.Parallel()
	for sentence, r := range map[string]struct{ text, want string }{
		"text is text":                        {"größer → \"x\"\n\ttab", "größer → \"x\"\n\ttab"},
		"a sequence that clears the screen":   {"a\x1b[2Jb", `a\x1b[2Jb`},
		"one that renames the window":         {"\x1b]0;root@host\x07", `\x1b]0;root@host\x07`},
		"the same in one character":           {"\u009b2J", `\u009b2J`},
		"a line that is written over":         {"FAILED\rok", `FAILED\x0dok`},
		"characters that are taken back":      {"rm\b\bls\x7f", `rm\x08\x08ls\x7f`},
		"the direction of writing":            {"\u202etxt.exe\u2066", `\u202etxt.exe\u2066`},
		"what is no text":                     {"a\xff\xfeb\x00", `a\xff\xfeb\x00`},
		"the character that stands for that":  {"a\ufffdb", "a\ufffdb"},
		"bytes that a terminal takes for one": {"\x9b2J", `\x9b2J`},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			if n, err := (terminal{&out}).Write([]byte(r.text)); err != nil || n != len(r.text) || out.String() != r.want {
				t.Errorf("%q, %d, %v, want %q", out.String(), n, err, r.want)
			}
		})
	}
}

// TestAManifestDoesNotSpeakToTheTerminal has a file's name, a key and a value hold what a terminal obeys.
func TestAManifestDoesNotSpeakToTheTerminal(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "\x1b[2Jweb.yaml")
	text := "apiVersion: v1\nkind: Pod\nmetadata: {name: \"\\e[31mweb\\r\"}\nspec: {containers: [{name: a, image: b, \"\\e]0;x\\a\": 1}]}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := command()
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"validate", file})
	if err := cmd.Execute(); err == nil {
		t.Error("it is valid")
	}
	if out.Len() == 0 || strings.ContainsAny(out.String(), "\x1b\r\a") {
		t.Errorf("it is told that %q", out.String())
	}
}
