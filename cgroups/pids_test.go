package cgroups

import "testing"

func TestTasksOfTheNode(t *testing.T) {
	t.Parallel()
	running, most, err := Tasks()
	if err != nil || running < 1 || most <= running {
		t.Errorf("%d of %d tasks, %v", running, most, err)
	}
	for load, want := range map[string]int64{"1.36 3.49 4.53 2/3518 3715089\n": 3518, "1.36 3.49 4.53 2 3715089\n": -1, "1 2 3 4/x 5\n": -1, "": -1} {
		got, err := countTasks(load)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: got %d, want %d", load, got, want)
		}
	}
}
