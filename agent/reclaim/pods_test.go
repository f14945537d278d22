package reclaim

import (
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestWhichEndedPodsGo(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	pod := func(name string, minute int, phase v1.PodPhase) *v1.Pod {
		return &v1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(begin.Add(time.Duration(minute) * time.Minute))},
			Status:     v1.PodStatus{Phase: phase},
		}
	}
	evicted, ending := pod("evicted", 9, v1.PodFailed), pod("ending", 0, v1.PodFailed)
	evicted.Status.Reason, ending.DeletionTimestamp = "Evicted", &metav1.Time{Time: begin}
	a, b, c := pod("a", 3, v1.PodFailed), pod("b", 1, v1.PodSucceeded), pod("c", 2, v1.PodSucceeded)
	for sentence, r := range map[string]struct {
		pods  []*v1.Pod
		limit int
		want  string
	}{
		"none is there":                         {nil, 1, ""},
		"as many as may be":                     {[]*v1.Pod{a, b, c}, 3, ""},
		"the oldest goes, however it ended":     {[]*v1.Pod{a, b, c}, 2, "b"},
		"the older ones go, in their order":     {[]*v1.Pod{a, b, c}, 1, "b c"},
		"of two as old that which is first":     {[]*v1.Pod{pod("y", 1, v1.PodFailed), pod("x", 1, v1.PodFailed)}, 1, "x"},
		"without a limit none goes":             {[]*v1.Pod{a, b, c}, 0, ""},
		"nor with one below":                    {[]*v1.Pod{a, b, c}, -1, ""},
		"what has not ended does not count":     {[]*v1.Pod{a, pod("r", 0, v1.PodRunning), pod("p", 0, v1.PodPending), pod("u", 0, v1.PodUnknown)}, 1, ""},
		"what is being deleted does not either": {[]*v1.Pod{a, ending}, 1, ""},
		"nor does it hold the others' place":    {[]*v1.Pod{a, ending, b}, 1, "b"},
		"those that were evicted go first":      {[]*v1.Pod{b, a, evicted}, 2, "evicted"},
		"and the oldest after them":             {[]*v1.Pod{a, evicted, b}, 1, "evicted b"},
	} {
		var got []string
		for _, p := range Ended(r.pods, r.limit) {
			got = append(got, p.Name)
		}
		if strings.Join(got, " ") != r.want {
			t.Errorf("%s: %q, want %q", sentence, got, r.want)
		}
	}
}
