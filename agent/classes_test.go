package agent

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/manifests"
)

func class(name string, value int32, isDefault bool) manifests.Object {
	return manifests.Object{Kind: manifests.KindPriorityClass, Object: &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value, GlobalDefault: isDefault}}
}

func TestAPodHasThePriorityOfItsClass(t *testing.T) {
	t.Parallel()
	const missing = "no PriorityClass with name high was found"
	for sentence, r := range map[string]struct {
		source  string
		class   string
		written *int32
		classes []manifests.Object
		want    int32
		wait    string
	}{
		"none has 0":                           {source: SourceDirectory},
		"a class is another object":            {source: SourceDirectory, class: "high", classes: []manifests.Object{class("high", 5, false)}, want: 5},
		"a class may come later":               {source: SourceDirectory, class: "high", classes: []manifests.Object{class("low", 5, false)}, wait: missing},
		"there may be a default":               {source: SourceDirectory, classes: []manifests.Object{class("usual", 7, true)}, want: 7},
		"who was admitted once stays so":       {source: SourceAPI, class: "high", written: ptr.To(int32(9)), want: 9},
		"whatever becomes of its class":        {source: SourceAPI, class: "high", written: ptr.To(int32(9)), classes: []manifests.Object{class("high", 5, false)}, want: 9},
		"who was not admitted waits, too":      {source: SourceAPI, class: "high", wait: missing},
		"what a manifest says has to be right": {source: SourceDirectory, class: "high", written: ptr.To(int32(5)), classes: []manifests.Object{class("high", 5, false)}, want: 5},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: v1.PodSpec{PriorityClassName: r.class, Priority: r.written}}
			s := newSources(SourceDirectory, SourceAPI)
			other := SourceAPI
			if r.source == other {
				other = SourceDirectory
			}
			s.tell(r.source, manifests.Set{Pods: []manifests.Pod{{Pod: pod, Revision: "1"}}})
			s.tell(other, manifests.Set{Objects: r.classes})
			wish := s.wishes()[types.NamespacedName{Namespace: "default", Name: "web"}]
			if wish.Wait.Message != r.wait || (wish.Wait.Verdict == Held) != (r.wait != "") {
				t.Errorf("it waits for %+v, want %q", wish.Wait, r.wait)
			}
			if r.wait == "" && *wish.Pod.Spec.Priority != r.want || wish.Pod.Spec.PriorityClassName != r.class {
				t.Errorf("its priority is %d, want %d", *wish.Pod.Spec.Priority, r.want)
			}
			if pod.Spec.Priority != r.written {
				t.Error("the Pod that was told of was changed")
			}
		})
	}
}

// TestAPodWaitsForItsClass has one begin with its class, and run on when that is another one, is gone, and comes back.
func TestAPodWaitsForItsClass(t *testing.T) {
	inBubble(t, func(a *agency) {
		wish := func(revision string, priority int32, wait string) *Wish {
			p := a.pod("app")
			p.Spec.PriorityClassName = "high"
			wish := wishFor(p, revision)
			if wish.Pod.Spec.Priority = &priority; wait != "" {
				wish.Pod.Spec.Priority, wish.Wait = nil, hold(notPrioritised, wait)
			}
			return wish
		}
		a.w.want(wish("1", 0, "there is none"))
		a.pass(1)
		if c := scheduled(a.w); c.Status != v1.ConditionFalse || c.Reason != notPrioritised || c.Message != "there is none" {
			t.Errorf("without its class: %+v", c)
		}
		a.w.want(wish("1", 5, ""))
		a.pass(2)
		a.expect("start", "1 start app 0")
		if p := a.w.published.Load(); *p.Spec.Priority != 5 {
			t.Errorf("its priority is %d", *p.Spec.Priority)
		}
		a.w.want(wish("1", 0, "there is none"))
		a.pass(3)
		a.w.want(wish("2", 7, ""))
		a.pass(50)
		if p := a.w.published.Load(); *p.Spec.Priority != 7 {
			t.Errorf("after an edit its priority is %d", *p.Spec.Priority)
		}
		a.expect("start", "1 start app 0")
	})
}
