package runtime

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

func long(n int) string { return strings.Repeat("x", n) }

func TestSplitLines(t *testing.T) {
	t.Parallel()
	for sentence, r := range map[string]struct {
		seen  string
		final bool
		want  []string // a piece of a line that goes on ends with …
		taken int
	}{
		"nothing":                               {"", false, nil, 0},
		"one line":                              {"one\n", false, []string{"one"}, 4},
		"an unfinished line is left for later":  {"one\ntw", false, []string{"one"}, 4},
		"unless nothing will come after it":     {"one\ntw", true, []string{"one", "tw"}, 6},
		"an end without a line is none":         {"one\n", true, []string{"one"}, 4},
		"empty lines are lines":                 {"\n\na\n", false, []string{"", "", "a"}, 4},
		"a carriage return belongs to the line": {"a\r\n", false, []string{"a\r"}, 3},
		"a line of 16 KiB is whole":             {long(maxLogLine) + "\n", false, []string{long(maxLogLine)}, maxLogLine + 1},
		"16 KiB without an end wait for it":     {long(maxLogLine), false, nil, 0},
		"a longer line is cut":                  {long(maxLogLine+3) + "\n", false, []string{long(maxLogLine) + "…", "xxx"}, maxLogLine + 4},
		"before it has ended":                   {long(maxLogLine + 3), false, []string{long(maxLogLine) + "…"}, maxLogLine},
		"into as many pieces as it takes":       {long(2*maxLogLine+1) + "\n", false, []string{long(maxLogLine) + "…", long(maxLogLine) + "…", "x"}, 2*maxLogLine + 2},
		"and its end may be all that is left":   {long(maxLogLine) + long(maxLogLine) + "\n", false, []string{long(maxLogLine) + "…", long(maxLogLine)}, 2*maxLogLine + 1},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			entries, taken := splitLines([]byte(r.seen), r.final)
			var got []string
			for _, e := range entries {
				got = append(got, string(e.text)+map[bool]string{true: "…"}[e.partial])
			}
			if diff := cmp.Diff(r.want, got); diff != "" || taken != r.taken {
				t.Errorf("taken %d, want %d (-want +got):\n%s", taken, r.taken, diff)
			}
		})
	}
}

// What is taken is what the entries say, byte for byte, and what is not taken is an unfinished line.
func FuzzSplitLines(f *testing.F) {
	f.Add([]byte("one\ntwo\n\nthree"), false, 1)
	f.Add([]byte("one\ntwo"), true, 1)
	f.Add([]byte("ab\n"), false, maxLogLine)
	f.Fuzz(func(t *testing.T, seen []byte, final bool, times int) {
		if times < 0 || len(seen)*times > 1<<20 {
			t.Skip("more than a pipe holds")
		}
		seen = bytes.Repeat(seen, times)
		entries, taken := splitLines(seen, final)
		var back []byte
		for _, e := range entries {
			if len(e.text) > maxLogLine {
				t.Fatalf("a line of %d bytes", len(e.text))
			}
			back = append(back, e.text...)
			if !e.partial {
				back = append(back, '\n')
			}
		}
		if final && len(back) == taken+1 { // the last line had no end
			back = back[:taken]
		}
		if !bytes.Equal(back, seen[:taken]) {
			t.Fatalf("got %q of %q", back, seen[:taken])
		}
		rest := seen[taken:]
		if final && len(rest) > 0 || len(rest) > maxLogLine || bytes.IndexByte(rest, '\n') >= 0 {
			t.Fatalf("%d bytes are left", len(rest))
		}
	})
}

// piped is a Runtime that can carry logs, and the two pipes of a container.
type piped struct {
	*testing.T
	runtime                   *Runtime
	dir, stdout, stderr, file string
}

func newPiped(t *testing.T) *piped {
	t.Helper()
	dir := t.TempDir()
	scratch, err := newScratch(4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 4 {
			s := <-scratch
			_ = syscall.Close(s.read)
			_ = syscall.Close(s.write)
		}
	})
	if err := MakePipes(dir, AllPipes(dir, &v1.Container{Name: "app"})); err != nil {
		t.Fatal(err)
	}
	p := pipedIn(dir, scratch)
	p.T = t
	return p
}

func pipedIn(dir string, scratch chan *scratch) *piped {
	p := &piped{dir: dir, file: filepath.Join(dir, "logs", "app", "0.log"),
		runtime: &Runtime{cfg: Config{LogMaxSize: 10 << 20, LogFiles: 5}, scratch: scratch}}
	p.stdout, p.stderr = Pipes(dir, "app", 0)
	return p
}

// writer opens a pipe as the container's process has it.
func (p *piped) writer(pipe string) *os.File {
	p.Helper()
	f, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { f.Close() })
	return f
}

func (p *piped) open() *Log {
	p.Helper()
	l, err := p.runtime.OpenLog(p.stdout, p.stderr, p.file)
	if err != nil {
		p.Fatal(err)
	}
	return l
}

func (p *piped) put(f *os.File, text string) {
	p.Helper()
	if _, err := f.WriteString(text); err != nil {
		p.Fatal(err)
	}
}

// lines are what the log says, without the times, which must be in order.
func (p *piped) lines() []string {
	p.Helper()
	content, err := os.ReadFile(p.file)
	if err != nil {
		p.Fatal(err)
	}
	var out []string
	last := time.Time{}
	for line := range strings.Lines(string(content)) {
		at, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		parsed, err := time.Parse(time.RFC3339Nano, at)
		if err != nil || parsed.Before(last) {
			p.Fatalf("line %q after %v: %v", line, last, err)
		}
		out, last = append(out, rest), parsed
	}
	return out
}

func TestLogIsCarried(t *testing.T) {
	t.Parallel()
	p := newPiped(t)
	stdout, stderr := p.writer(p.stdout), p.writer(p.stderr)
	p.put(stdout, "before any agent\n")
	l := p.open()
	p.put(stderr, long(maxLogLine+5)+"\nlast words")
	p.put(stdout, "one\ntw")
	p.put(stdout, "o\n")
	if err := l.Finish(); err != nil {
		t.Fatal(err)
	}
	got := p.lines()
	slices.SortStableFunc(got, func(a, b string) int { return strings.Compare(a[:6], b[:6]) })
	want := []string{"stderr P " + long(maxLogLine), "stderr F xxxxx", "stderr F last words", "stdout F before any agent", "stdout F one", "stdout F two"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// number has a container write that many numbered lines to either stream, with a pause after each. What it answers is closed after
// the last one.
func (p *piped) number(n int, pause time.Duration) (written chan struct{}) {
	var writers sync.WaitGroup
	for _, f := range []*os.File{p.writer(p.stdout), p.writer(p.stderr)} {
		writers.Go(func() {
			for i := range n {
				if _, err := fmt.Fprintf(f, "line %d\n", i); err != nil {
					p.Error(err)
				}
				time.Sleep(pause)
			}
		})
	}
	written = make(chan struct{})
	go func() { writers.Wait(); close(written) }()
	return written
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// expectNumbered fails the test unless just these are in the log, in their order.
func (p *piped) expectNumbered(n int) {
	p.Helper()
	next := map[string]int{}
	for _, line := range p.lines() {
		stream := line[:6]
		if want := fmt.Sprintf("%s F line %d", stream, next[stream]); line != want {
			p.Fatalf("got %q, want %q", line, want)
		}
		next[stream]++
	}
	if next["stdout"] != n || next["stderr"] != n {
		p.Errorf("%v lines, want %d each", next, n)
	}
}

func TestNumberedLinesSurviveManyAgents(t *testing.T) {
	t.Parallel()
	p := newPiped(t)
	const n = 20000
	written := p.number(n, 0)
	for done := false; !done; { // each ends at once, wherever it is
		done = isClosed(written)
		if err := p.open().Close(); err != nil {
			t.Fatal(err)
		}
		l := p.open()
		eventually(t, "pipes are read", func() bool { return p.waiting(p.stdout) < pipeCapacity/2 && p.waiting(p.stderr) < pipeCapacity/2 })
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.open().Finish(); err != nil {
		t.Fatal(err)
	}
	p.expectNumbered(n)
}

// waiting is how many bytes are in a pipe.
func (p *piped) waiting(pipe string) int {
	f, err := os.OpenFile(pipe, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		p.Fatal(err)
	}
	defer f.Close()
	return inPipe(p.T, f)
}

// A move that an agent was killed in, after any byte, leaves no line twice and none out.
func TestKilledAmidAMove(t *testing.T) {
	t.Parallel()
	const all = 100 // more than the lines
	for written := range all {
		killedAmidAMove(t, written, false, "ee\n", "three")
	}
	killedAmidAMove(t, all, true, "ee\n", "three")
	killedAmidAMove(t, all, false, "ee\none\ntwo\n", "three", "one", "two") // what is repeated is
}

// killedAmidAMove ends an agent that has written some bytes of its lines, and may have taken them out of the pipe, and has the next
// one carry what comes then.
func killedAmidAMove(t *testing.T, written int, taken bool, then string, want ...string) {
	t.Helper()
	p := newPiped(t)
	stdout := p.writer(p.stdout)
	p.put(stdout, "one\ntwo\nthr")
	out, err := openLogFile(p.file, 1<<20, 5)
	if err != nil {
		t.Fatal(err)
	}
	say(out, "stdout", "zero")
	s, err := openLogStream("stdout", p.stdout, out, p.runtime.scratch)
	if err != nil {
		t.Fatal(err)
	}
	pipe := int(s.pipe.Fd())
	n, sum := s.look(pipe, false, time.Now())
	move{Inode: out.inode, Offset: out.size, Length: int64(len(out.line)), Taken: int64(n), Sum: sum}.keep(pipe)
	if _, found := keptMove(pipe); !found {
		t.Skip("the file system has no trusted attributes")
	}
	out.line = out.line[:min(written, len(out.line))]
	if err := out.write(); err != nil {
		t.Fatal(err)
	}
	if taken {
		err = s.take(pipe, n)
	}
	if err := errors.Join(err, s.pipe.Close(), out.Close()); err != nil {
		t.Fatal(err)
	}
	p.put(stdout, then)
	if err := p.open().Finish(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, line := range p.lines() {
		got = append(got, strings.TrimPrefix(line, "stdout F "))
	}
	if diff := cmp.Diff(append([]string{"zero", "one", "two"}, want...), got); diff != "" {
		t.Errorf("after %d bytes, taken %v (-want +got):\n%s", written, taken, diff)
	}
}

// TestManyAgentsAreKilled has each carry a log until it is killed, at no time in particular.
func TestManyAgentsAreKilled(t *testing.T) {
	t.Parallel()
	p := newPiped(t)
	const n = 1500
	written := p.number(n, 100*time.Microsecond)
	for i, done := 0, false; !done; i++ {
		agent := exec.Command(os.Args[0])
		agent.Env = append(os.Environ(), asLogCarrier+"="+p.dir)
		ready, err := agent.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := agent.Start(); err != nil {
			t.Fatal(err)
		}
		_, err = ready.Read(make([]byte, 1))
		time.Sleep(time.Duration(i%17) * time.Millisecond)
		if err := errors.Join(err, agent.Process.Kill()); err != nil {
			t.Fatal(err)
		}
		_ = agent.Wait()
		done = isClosed(written)
	}
	if err := p.open().Finish(); err != nil {
		t.Fatal(err)
	}
	p.expectNumbered(n)
}

// An agent that starts after a container has ended finds a full pipe, and finishes it at once.
func TestFinishOfAFullPipeCutsNoLine(t *testing.T) {
	t.Parallel()
	p := newPiped(t)
	stdout := p.writer(p.stdout)
	if err := p.open().Close(); err != nil { // makes the pipe as large as an agent does
		t.Fatal(err)
	}
	line := long(1000)
	for range 500 {
		p.put(stdout, line+"\n")
	}
	p.put(stdout, "end")
	s, err := openLogStream("stdout", p.stdout, nil, p.runtime.scratch)
	if err != nil {
		t.Fatal(err)
	}
	if s.out, err = openLogFile(p.file, 10<<20, 5); err != nil {
		t.Fatal(err)
	}
	s.final.Store(true)
	if err := s.pipe.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	s.run()
	if err := s.pipe.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.out.Close(); err != nil {
		t.Fatal(err)
	}
	got := p.lines()
	if len(got) != 501 || got[500] != "stdout F end" {
		t.Fatalf("%d lines, the last %q", len(got), got[len(got)-1])
	}
	for i, l := range got[:500] {
		if l != "stdout F "+line {
			t.Fatalf("line %d is %d bytes long", i, len(l))
		}
	}
}

func TestOpenLogOfNoPipe(t *testing.T) {
	t.Parallel()
	p := newPiped(t)
	if err := os.Remove(p.stderr); err != nil {
		t.Fatal(err)
	}
	if _, err := p.runtime.OpenLog(p.stdout, p.stderr, p.file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func logFiles(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// say writes one line to a log file.
func say(l *logFile, stream, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.line = appendEntries(l.line[:0], now, stream, []entry{{text: []byte(text)}})
	_ = l.write()
	l.rotateFull(now)
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "0.log")
	synctest.Test(t, func(t *testing.T) {
		l, err := openLogFile(path, 100, 4)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for i := range 6 {
			say(l, "stdout", fmt.Sprintf("%d %s", i, long(100)))
			say(l, "stdout", long(100)) // in the same second: it stays
			time.Sleep(time.Second)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		name := func(i int) string {
			return "0.log." + start.Add(time.Duration(i)*time.Second).Format("20060102-150405")
		}
		want := []string{"0.log", name(3) + gzSuffix, name(4) + gzSuffix, name(5)}
		if diff := cmp.Diff(want, logFiles(t, dir)); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		f, err := os.Open(filepath.Join(dir, name(4)+gzSuffix))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		zip, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(zip)
		if err != nil || bytes.Count(content, []byte("\n")) != 2 || !strings.Contains(string(content), " stdout F 4 x") {
			t.Errorf("compressed: %d bytes, %v", len(content), err)
		}
	})
}

func TestRotationLosesNoLine(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l, err := openLogFile(filepath.Join(dir, "0.log"), 1000, 1000)
		if err != nil {
			t.Fatal(err)
		}
		var streams sync.WaitGroup
		for _, stream := range []string{"stdout", "stderr"} {
			streams.Go(func() {
				for i := range 300 {
					say(l, stream, fmt.Sprintf("line %d", i))
					time.Sleep(100 * time.Millisecond)
				}
			})
		}
		streams.Wait()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		lines := 0
		for _, name := range logFiles(t, dir) {
			var r io.Reader
			f, err := os.Open(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			r = f
			if strings.HasSuffix(name, gzSuffix) {
				if r, err = gzip.NewReader(f); err != nil {
					t.Fatal(err)
				}
			}
			content, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
			lines += bytes.Count(content, []byte("\n"))
		}
		if lines != 600 {
			t.Errorf("%d lines, want 600", lines)
		}
	})
}

func TestClosingStopsCompression(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "0.log")
	for _, f := range []string{".1", ".2"} {
		if err := os.WriteFile(path+f, []byte("x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stop := &atomic.Bool{}
	stop.Store(true)
	compressRotated(path, stop)
	if diff := cmp.Diff([]string{"0.log.1", "0.log.2"}, logFiles(t, filepath.Dir(path))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// onFullDisk gives a test a log on a disk that has no more room, and a way to make some.
func onFullDisk(t *testing.T) (p *piped, makeRoom func()) {
	t.Helper()
	p = newPiped(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("no file system that can be full: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	p.file = filepath.Join(dir, "0.log")
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 60<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	return p, func() {
		if err := os.Remove(ballast); err != nil {
			t.Error(err)
		}
	}
}

func TestNoLineIsLostOrTornWhileTheDiskIsFull(t *testing.T) {
	t.Parallel()
	for sentence, restart := range map[string]bool{"the agent stays": false, "another agent comes": true} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			p, makeRoom := onFullDisk(t)
			stdout := p.writer(p.stdout)
			l := p.open()
			var want []string
			for i := range 100 {
				want = append(want, fmt.Sprintf("stdout F line %d %s", i, long(100)))
				p.put(stdout, fmt.Sprintf("line %d %s\n", i, long(100)))
			}
			for p.waiting(p.stdout) > 12<<10 { // until the disk is full
				time.Sleep(time.Millisecond)
			}
			if restart {
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				if f, err := os.OpenFile(p.file, os.O_WRONLY|os.O_APPEND, 0); err != nil {
					t.Fatal(err)
				} else if _, err := f.WriteString("2026-11-26T22:46:41.71730111Z stdo"); err == nil { // one that was killed while it wrote
					f.Close()
				}
				l = p.open()
			}
			makeRoom()
			for p.waiting(p.stdout) > 0 {
				time.Sleep(time.Millisecond)
			}
			if err := l.Finish(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, p.lines()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestAFullDiskHoldsNoContainerUp has one write many times more than its pipe takes.
func TestAFullDiskHoldsNoContainerUp(t *testing.T) {
	t.Parallel()
	p, _ := onFullDisk(t)
	stdout := p.writer(p.stdout)
	l := p.open()
	for range 4 * pipeCapacity / 1000 {
		p.put(stdout, long(999)+"\n")
	}
	if err := l.Finish(); err != nil {
		t.Fatal(err)
	}
}

// TestRotationOnAFullDisk has no room for a new file, though for a new name and for more lines.
func TestRotationOnAFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,nr_inodes=3"); err != nil {
		t.Skipf("no file system that can be full: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(dir, "0.log")
	l, err := openLogFile(path, 200, 4)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	lines := 0
	for range 5 { // at each of them it is to be rotated
		l.rotateAt = time.Time{}
		say(l, "stdout", long(200))
		lines++
		content, err := os.ReadFile(path)
		if got := bytes.Count(content, []byte("\n")); err != nil || got != lines {
			t.Fatalf("a reader finds %d lines of %d: %v", got, lines, err)
		}
	}
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	l.rotateAt = time.Time{}
	say(l, "stdout", long(200))
	say(l, "stdout", "after it")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if files := logFiles(t, dir); len(files) != 2 {
		t.Errorf("with room it is not rotated: %q", files)
	}
	if content, err := os.ReadFile(path); err != nil || !strings.HasSuffix(string(content), " after it\n") || len(content) > 100 {
		t.Errorf("the new file holds %q: %v", content, err)
	}
}

func TestRotatedFilesAreTidied(t *testing.T) {
	t.Parallel()
	for sentence, r := range map[string]struct {
		files []string
		keep  int
		want  []string
	}{
		"the newest is left as it is":          {[]string{"0.log", "0.log.1"}, 4, []string{"0.log", "0.log.1"}},
		"older ones are compressed":            {[]string{"0.log", "0.log.1", "0.log.2"}, 4, []string{"0.log", "0.log.1.gz", "0.log.2"}},
		"compressed ones stay":                 {[]string{"0.log.1.gz", "0.log.2.gz", "0.log.3"}, 4, []string{"0.log.1.gz", "0.log.2.gz", "0.log.3"}},
		"the oldest go":                        {[]string{"0.log", "0.log.1.gz", "0.log.2", "0.log.3"}, 2, []string{"0.log", "0.log.2.gz", "0.log.3"}},
		"none is kept":                         {[]string{"0.log", "0.log.1"}, 0, []string{"0.log"}},
		"what was left half-written goes":      {[]string{"0.log", "0.log.1", "0.log.1.gz.tmp", "0.log.2"}, 4, []string{"0.log", "0.log.1.gz", "0.log.2"}},
		"the logs of other attempts are alone": {[]string{"0.log.1", "10.log.1", "10.log.2"}, 0, []string{"10.log.1", "10.log.2"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), `[a]*?\`) // a name that a pattern could take for one
			if err := os.Mkdir(dir, 0o750); err != nil {
				t.Fatal(err)
			}
			for _, f := range r.files {
				if err := os.WriteFile(filepath.Join(dir, f), []byte("x\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			pruneRotated(filepath.Join(dir, "0.log"), r.keep)
			compressRotated(filepath.Join(dir, "0.log"), &atomic.Bool{})
			if diff := cmp.Diff(r.want, logFiles(t, dir)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
