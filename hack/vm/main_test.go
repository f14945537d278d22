package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	t.Parallel()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		args string
		want request
		err  string
	}{
		"a command alone gets the defaults":       {"-- make test", request{limit: 10 * time.Minute, argv: []string{"make", "test"}}, ""},
		"flags behind -- are the command's":       {"-t 5 -cold -- ls -t", request{limit: 5 * time.Second, cold: true, argv: []string{"ls", "-t"}}, ""},
		"a file goes to /work under its own name": {"-in a/b -- x", request{limit: 10 * time.Minute, in: []transfer{{"a/b", "/work/b"}}, argv: []string{"x"}}, ""},
		"the present folder has a name too":       {"-in . -- x", request{limit: 10 * time.Minute, in: []transfer{{".", "/work/" + filepath.Base(here)}}, argv: []string{"x"}}, ""},
		"a file goes where it is told to":         {"-in a:/etc/b -in a:c/../d -- x", request{limit: 10 * time.Minute, in: []transfer{{"a", "/etc/b"}, {"a", "/work/d"}}, argv: []string{"x"}}, ""},
		"a file comes out":                        {"-out log:/tmp/log -reboots 2 -- x", request{limit: 10 * time.Minute, out: []transfer{{"/tmp/log", "/work/log"}}, reboots: 2, argv: []string{"x"}}, ""},
		"installing needs no command":             {"--install", request{limit: 10 * time.Minute, argv: []string{}, install: true}, ""},
		"no command is refused":                   {"-t 5", request{}, "no command given"},
		"-out without a host path is refused":     {"-out log -- x", request{}, "want GUESTPATH:HOSTPATH"},
		"-in without a host path is refused":      {"-in :log -- x", request{}, "want FILE_OR_DIR"},
		"no time at all is refused":               {"-t 0 -- x", request{}, "-t must be at least 1"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parse(strings.Fields(test.args), io.Discard)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("got error %v, want %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(request{}, transfer{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestScriptIsTheCommandToTheLetter(t *testing.T) {
	t.Parallel()
	argv := []string{"printf", "%s|", "it's", "", "$HOME `x` \\", "two\nlines", "*"}
	out, err := exec.Command("sh", "-c", request{argv: argv}.script()).CombinedOutput()
	if want := strings.Join(argv[2:], "|") + "|"; err != nil || string(out) != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
}

func TestRelay(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		in, out, verdict string
		cut              bool
	}{
		"output ends at the marker":           {"a\nb\x00TOKEN exit 3 ok\n", "a\nb", "exit 3 ok", false},
		"no output is no output":              {"\x00TOKEN boot\n", "", "boot", false},
		"half a marker is output":             {"a\x00TOK\x00\x00TOKEN exit 0 ok\n", "a\x00TOK\x00", "exit 0 ok", false},
		"a guest that falls silent is told":   {"a\nb\x00TOK", "a\nb\x00TOK", "", true},
		"a verdict that breaks off is told":   {"a\x00TOKEN exit", "a", "", true},
		"what comes behind it is not ours":    {"\x00TOKEN exit 0 ok\nmore", "", "exit 0 ok", false},
		"somebody else's marker is output":    {"\x00OTHER exit 1 ok\n\x00TOKEN exit 0 ok\n", "\x00OTHER exit 1 ok\n", "exit 0 ok", false},
		"a byte that is no text comes out so": {"\xff\x00\xfe\x00TOKEN exit 0 ok\n", "\xff\x00\xfe", "exit 0 ok", false},
	}
	for name, test := range tests {
		for how, reader := range map[string]func(io.Reader) io.Reader{
			"at once":       func(r io.Reader) io.Reader { return r },
			"byte by byte":  iotest.OneByteReader,
			"end with data": iotest.DataErrReader,
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				t.Parallel()
				var out bytes.Buffer
				verdict, err := relay(&out, reader(strings.NewReader(test.in)), "TOKEN")
				if out.String() != test.out || verdict != test.verdict || errors.Is(err, errCut) != test.cut {
					t.Errorf("got %q, %q, %v, want %q, %q", out.String(), verdict, err, test.out, test.verdict)
				}
			})
		}
	}
}

func TestConsoleSeesAPanic(t *testing.T) {
	t.Parallel()
	var got []string
	c := console{onPanic: func(line string) { got = append(got, line) }}
	text := strings.Repeat("noise\r\n", 100) + "[    9.1] Kernel panic - not syncing: sysrq triggered crash\r\nlast\r\n"
	c.listen(io.NopCloser(strings.NewReader(text)))
	if diff := cmp.Diff([]string{"sysrq triggered crash"}, got); diff != "" {
		t.Error(diff)
	}
	if len(c.lines) != consoleTail || c.lines[consoleTail-1] != "last" {
		t.Errorf("kept %d lines, the last is %q", len(c.lines), c.lines[len(c.lines)-1])
	}
}

// What pack writes, unpack reads: a folder goes in under one name and comes out under another.
func TestFilesComeOutAsTheyWentIn(t *testing.T) {
	t.Parallel()
	src, dst := t.TempDir(), t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(src+"/sub", 0o750))
	must(os.WriteFile(src+"/sub/script", []byte("x"), 0o755))
	must(os.Symlink("sub/script", src+"/link"))
	var disk bytes.Buffer
	must(pack(&disk, request{argv: []string{"true"}, in: []transfer{{src, "/opt/tree"}}}))
	disk.Write(make([]byte, 4096)) // the disk is longer than what was written

	out := []transfer{{dst + "/agent", "/var/lib/vm-agent"}, {dst + "/all", "/opt/tree"}, {dst + "/deep", "/opt/tree/sub"}}
	must(unpack(&disk, out))
	info, err := os.Stat(dst + "/deep/script")
	must(err)
	if info.Mode() != 0o755 {
		t.Errorf("the script's mode is %v", info.Mode())
	}
	if target, err := os.Readlink(dst + "/all/link"); err != nil || target != "sub/script" {
		t.Errorf("the link points to %q, %v", target, err)
	}
	if command, err := os.ReadFile(dst + "/agent/command"); err != nil || string(command) != "exec 'true'\n" {
		t.Errorf("the command is %q, %v", command, err)
	}
}

func TestNothingUnaskedComesOut(t *testing.T) {
	t.Parallel()
	var disk bytes.Buffer
	if err := pack(&disk, request{argv: []string{"true"}}); err != nil {
		t.Fatal(err)
	}
	if err := unpack(&disk, []transfer{{t.TempDir(), "/var/lib/vm"}}); err == nil {
		t.Error("a file that nobody asked for was unpacked")
	}
}

func TestEachEndHasItsExitStatus(t *testing.T) {
	t.Parallel()
	for want, err := range map[int]error{
		exitUnable: unable{io.EOF}, exitPanic: errPanic, exitHang: errHang, exitGone: errGone, exitBroken: errBoot,
	} {
		if got := statusOf(errors.Join(io.EOF, err)); got != want {
			t.Errorf("%v: got %d, want %d", err, got, want)
		}
	}
}
