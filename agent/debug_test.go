package agent

import (
	"bytes"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/agent/admit"
	"github.com/podkeeper/podkeeper/agent/evict"
	"github.com/podkeeper/podkeeper/agent/plan"
)

// heard is a log in memory, without times.
type heard struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.buf.Write(p)
}

func (h *heard) logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(h, &slog.HandlerOptions{Level: level}))
}

var stamps = regexp.MustCompile(`time=\S+ |\d\d:\d\d:\d\d\.\d{3}`)

// lines are those with a message.
func (h *heard) lines(message string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for line := range strings.Lines(h.buf.String()) {
		if strings.Contains(line, "level=DEBUG msg="+message+" ") {
			out = append(out, strings.TrimSpace(stamps.ReplaceAllString(line, "")))
		}
	}
	return out
}

func TestDecisionsAreLoggedWithWhatWasSeen(t *testing.T) {
	inBubble(t, func(a *agency) {
		var said heard
		a.w.log = said.logger(slog.LevelDebug)
		a.want("1", "app")
		a.pass(1)
		a.host.exit("app", 3)
		a.pass(1)
		plans := said.lines("plan")
		for _, want := range []string{
			`do="create sandbox, prepare app" seen="sandbox none/-1, app none/0"`,
			`do="start app" seen="sandbox running/0, app none/0 `,
			`do="prepare app (attempt 1)" seen="sandbox running/0, app exited/0 3 `,
		} {
			if !slices.ContainsFunc(plans, func(line string) bool { return strings.Contains(line, "pod=default/web "+want) }) {
				t.Errorf("%s is not told:\n%s", want, strings.Join(plans, "\n"))
			}
		}
		if got := said.lines("admission"); len(got) != 1 || !strings.Contains(got[0], `is=admitted asks="pods=1"`) {
			t.Errorf("of the admission it tells %q", got)
		}
		edited := a.pod("app")
		edited.Spec.Containers[0].Image = "app:2"
		edited.Spec.Containers[0].Args = []string{"1"}
		a.wish(edited, "2")
		a.pass(1)
		if got := said.lines("edit"); len(got) == 0 || !strings.Contains(got[0], "means=restart running=1 wanted=2") {
			t.Errorf("of the edit it tells %q", got)
		}
	})
}

func TestLooksAtTheNodeAreLogged(t *testing.T) {
	t.Parallel()
	var said heard
	share, err := admit.ParseShare("10%")
	if err != nil {
		t.Fatal(err)
	}
	threshold := evict.Threshold{Signal: evict.MemoryAvailable, Below: share}
	e := newEvictor(nil, evict.Policy{Thresholds: []evict.Threshold{threshold}}, newEvents("node"), said.logger(slog.LevelDebug))
	e.state.Starved = []evict.Threshold{threshold}
	e.logPass(evict.Readings{evict.MemoryAvailable: {Available: 5, Capacity: 100}})
	e.logRank(threshold, []evict.Candidate{{Pod: &v1.Pod{}, Usage: &evict.Usage{Memory: 7}}, {Pod: &v1.Pod{}}})
	got := said.buf.String()
	for _, want := range []string{`seen="memory.available 5 of 100, at least 10" starved=memory.available`, `order="/ (7 bytes of memory, 0 processes), /"`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not told: %s", want, got)
		}
	}
}

func TestWhereNobodyLooksForADefectDecisionsCostNothing(t *testing.T) {
	var said heard
	w := newWorker(key(&v1.Pod{}), &surroundings{log: said.logger(slog.LevelInfo)})
	w.inst = newInstance(t.TempDir(), &v1.Pod{}, "1")
	e := newEvictor(nil, evict.Policy{}, newEvents("node"), w.log)
	seen, p, ended := plan.Seen{Containers: map[string]plan.Container{"app": {}}}, plan.Plan{Wake: time.Now()}, hold("reason", "message")
	if n := testing.AllocsPerRun(100, func() {
		w.logPlan(p, seen)
		w.logAdmission(w.inst.Pod, ended)
		w.logEdit(recreate, nil)
		e.logPass(nil)
		e.logRank(evict.Threshold{}, nil)
	}); n != 0 || said.buf.Len() > 0 {
		t.Errorf("it allocates %v times, and says %s", n, &said.buf)
	}
}
