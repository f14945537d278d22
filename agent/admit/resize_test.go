package admit

import (
	"maps"
	"testing"
)

func TestResize(t *testing.T) {
	t.Parallel()
	for sentence, r := range map[string]struct{ others, was, asks, reason, message string }{
		"as much as there is":                            {"cpu=1", "cpu=1", "cpu=3", "", ""},
		"more than others leave is for later":            {"cpu=2", "cpu=1", "cpu=3", "Deferred", "Node didn't have enough resource: cpu, requested: 3000, used: 2000, capacity: 4000"},
		"more than there is will never be":               {"", "memory=1Mi", "memory=8Gi", "Infeasible", "Node didn't have enough capacity: memory, requested: 8589934592, capacity: 4294967296"},
		"never is said before later":                     {"cpu=4", "cpu=1 memory=1Mi", "cpu=2 memory=8Gi", "Infeasible", "Node didn't have enough capacity: memory, requested: 8589934592, capacity: 4294967296"},
		"the first that is short is told of":             {"cpu=4 memory=4Gi", "cpu=1 memory=1Mi", "cpu=2 memory=2Mi", "Deferred", "Node didn't have enough resource: cpu, requested: 2000, used: 4000, capacity: 4000"},
		"less is always had, where others have too much": {"cpu=9", "cpu=2", "cpu=1", "", ""},
		"so is what does not change":                     {"cpu=9", "cpu=2 memory=1Gi", "cpu=2 memory=2Gi", "", ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			reason, message := Resize(amounts("cpu=4 memory=4Gi"), amounts(r.others), amounts(r.was), amounts(r.asks))
			if reason != r.reason || message != r.message {
				t.Errorf("%s: %s", reason, message)
			}
		})
	}
	if reason, _ := Resize(nil, nil, nil, amounts("cpu=9")); reason != "" {
		t.Error("a node of which nothing is known refuses: " + reason)
	}
}

func TestBeyond(t *testing.T) {
	t.Parallel()
	if got := amounts("cpu=3 memory=1Mi pods=1").Beyond(amounts("cpu=1 memory=2Mi")); !maps.Equal(got, amounts("cpu=2 pods=1")) {
		t.Error(got)
	}
}
