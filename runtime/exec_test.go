package runtime

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestKillTree(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sh", "-c", `sh -c 'sleep 1000 & echo $!; wait' & echo $!; wait`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var pids []int
	for len(pids) < 2 && lines.Scan() {
		pid, err := strconv.Atoi(lines.Text())
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	main, err := hold(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer main.release()
	main.killTree()
	if err := cmd.Wait(); err == nil {
		t.Error("the process ended well")
	}
	for _, pid := range pids {
		eventually(t, "a descendant is dead", func() bool { return dead(pid) })
	}
	main.killTree() // what is dead is dead, whatever has its pid by now
	for _, never := range []int{-1, 0, 1} {
		if p, err := hold(never); err == nil {
			t.Errorf("process %d can be held", p.pid)
		}
	}
}

// dead says whether a process is gone, but for somebody who buries it.
func dead(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func TestKillMarked(t *testing.T) {
	t.Parallel()
	setsid, err := exec.LookPath("setsid")
	if err != nil {
		t.Skip("there is no setsid")
	}
	// Each line is a process that its parents have left behind.
	start := func(mark string) (pids []int) {
		t.Helper()
		cmd := exec.Command("sh", "-c", setsid+` sh -c 'sleep 1000 & echo $!; echo $$; wait' & sleep 0.2`)
		cmd.Env = append(os.Environ(), mark)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for len(pids) < 2 && lines.Scan() {
			pid, err := strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
			t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
		}
		_ = cmd.Wait()
		return pids
	}
	ours, others := start(execMark+"=1"), start(execMark+"=12")
	list := func(context.Context) ([]int, error) {
		var pids []int
		all, err := filepath.Glob("/proc/[0-9]*")
		for _, dir := range all {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			pids = append(pids, pid)
		}
		return pids, err
	}
	if err := killMarked(t.Context(), execMark+"=1", list); err != nil {
		t.Fatal(err)
	}
	for _, pid := range ours {
		if !dead(pid) {
			t.Errorf("%d lives", pid)
		}
	}
	for _, pid := range others {
		if dead(pid) {
			t.Errorf("%d is dead, which has another mark", pid)
		}
	}
	refused := errors.New("refused")
	if err := killMarked(t.Context(), "x", func(context.Context) ([]int, error) { return nil, refused }); !errors.Is(err, refused) {
		t.Errorf("what cannot be listed: %v", err)
	}
}

func TestOutlasting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		lasting, end := outlasting(ctx, time.Hour)
		defer end()
		begin := time.Now()
		<-lasting.Done()
		if took := time.Since(begin); took != time.Hour+time.Minute {
			t.Errorf("it ended after %v", took)
		}
		lasting, end = outlasting(t.Context(), time.Hour)
		end()
		if lasting.Err() == nil {
			t.Error("it does not end when it is ended")
		}
	})
}

func TestCollectorEndsWhateverIsWritten(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	c, err := collect(pipe, 10)
	if err != nil {
		t.Fatal(err)
	}
	w, err := os.OpenFile(pipe, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	yes := exec.Command("yes")
	yes.Stdout = w
	if err := yes.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() { _ = yes.Process.Kill(); _ = yes.Wait() })
	time.Sleep(50 * time.Millisecond)
	if got := string(c.end()); got != "y\ny\ny\ny\ny\n" {
		t.Errorf("got %q", got)
	}
}

func TestCollector(t *testing.T) {
	t.Parallel()
	for sentence, r := range map[string]struct {
		written, want string
		limit         int64
	}{
		"nothing":                  {"", "", 10},
		"all":                      {"said", "said", 10},
		"no more than the limit":   {"0123456789abc", "0123456789", 10},
		"much more than the limit": {long(50_000), long(5000), 5000},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			pipe := filepath.Join(t.TempDir(), "exec", "pipe")
			c, err := collect(pipe, r.limit)
			if err != nil {
				t.Fatal(err)
			}
			w, err := os.OpenFile(pipe, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.WriteString(r.written); err != nil {
				t.Fatal(err)
			}
			w.Close()
			if got := string(c.end()); got != r.want {
				t.Errorf("%d bytes %.20q, want %d", len(got), got, len(r.want))
			}
		})
	}
}

// answer is a registry in memory.
type answer func(*http.Request) (*http.Response, error)

func (a answer) RoundTrip(req *http.Request) (*http.Response, error) { return a(req) }

// slow sends one byte each time a wait is over.
type slow struct {
	ctx   context.Context
	waits []time.Duration
}

func (s *slow) Read(p []byte) (int, error) {
	if len(s.waits) == 0 {
		return 0, io.EOF
	}
	select {
	case <-s.ctx.Done():
		return 0, s.ctx.Err()
	case <-time.After(s.waits[0]):
	}
	s.waits = s.waits[1:]
	p[0] = 'x'
	return 1, nil
}

func TestStall(t *testing.T) {
	const s = time.Second
	for sentence, r := range map[string]struct {
		first time.Duration
		waits []time.Duration
		stall bool
	}{
		"a quick answer":                    {0, nil, false},
		"slow but steady, for any time":     {50 * s, []time.Duration{59 * s, 59 * s, 59 * s, 59 * s}, false},
		"no answer":                         {61 * s, nil, true},
		"an answer that stops in its midst": {0, []time.Duration{s, 61 * s}, true},
	} {
		t.Run(sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				c := &http.Client{Transport: answer(func(req *http.Request) (*http.Response, error) {
					select {
					case <-req.Context().Done():
						return nil, req.Context().Err()
					case <-time.After(r.first):
					}
					return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(&slow{req.Context(), r.waits})}, nil
				})}
				if err := (&watchdog{cancel: cancel}).watch(c); err != nil {
					t.Fatal(err)
				}
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://registry.example/", nil)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := c.Do(req)
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(time.Hour) // what is over is not watched any more
				cause := context.Cause(ctx)
				if r.stall != (err != nil) || r.stall != (cause != nil) {
					t.Fatalf("error %v, cause %v", err, cause)
				}
				if r.stall && !strings.HasPrefix(pullCause(ctx, errors.New("canceled")).Error(), "registry.example has sent nothing for 1m") {
					t.Errorf("cause %v", cause)
				}
			})
		})
	}
}
