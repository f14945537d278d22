package agent

import (
	"errors"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/manifests"
)

// TestARulingStandsUntilAllIsKnown has what was ruled before a restart be heard of before the source of its Pod.
func TestARulingStandsUntilAllIsKnown(t *testing.T) {
	t.Parallel()
	pod := somePod("web")
	name := types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}
	told := func(revision string) manifests.Set {
		return manifests.Set{Pods: []manifests.Pod{{Pod: pod, Revision: revision}}}
	}
	s := newSources(SourceDirectory, SourceAPI)
	verdict := func(when string, want Verdict) {
		t.Helper()
		wish := s.wishes()[name]
		if wish == nil {
			t.Fatalf("%s nobody wants it", when)
		}
		if got := wish.Ruling.Verdict; got != want {
			t.Errorf("%s it is %q, want %q", when, got, want)
		}
	}
	s.rule(name, "1", Ruling{Verdict: Evicted})
	s.tell(SourceAPI, manifests.Set{})
	s.wishes()
	s.tell(SourceDirectory, manifests.Set{Err: errors.New("it cannot be read")})
	s.wishes()
	s.tell(SourceDirectory, told("1"))
	verdict("when it is known", Evicted)
	s.tell(SourceDirectory, told("2"))
	verdict("edited", Admitted)
	s.tell(SourceDirectory, told("1"))
	verdict("as it was before", Admitted)
}
