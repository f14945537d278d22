package agent

import (
	"path/filepath"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/agent/node"
)

func TestDrainIsRemembered(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "drained")
	d := openDrain(file)
	if d.hold() != (Ruling{}) || d.raise(1) {
		t.Error("a node that nobody drains holds Pods")
	}
	if err := node.WriteDurably(file, nil); err != nil {
		t.Fatal(err)
	}
	d = openDrain(file)
	select {
	case <-d.begun:
	default:
		t.Error("the next agent does not go on")
	}
	low, high := &v1.Pod{}, &v1.Pod{Spec: v1.PodSpec{Priority: ptr.To[int32](10)}}
	if d.hold().Verdict != Held || d.rule(low).Verdict != Admitted {
		t.Error("Pods end before it is their turn, or begin")
	}
	if !d.raise(0) || d.raise(0) || d.rule(low).Verdict != Held || d.rule(high).Verdict != Admitted {
		t.Error("Pods of the lowest priority do not end, or others do")
	}
	if d.set(false); d.hold() != (Ruling{}) || d.rule(low) != (Ruling{}) {
		t.Error("a node that was resumed holds Pods")
	}
}
