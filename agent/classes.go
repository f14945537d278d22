package agent

import (
	v1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/podkeeper/podkeeper/manifests"
)

// Reasons of Pods that may not begin for what objects say: the names of the API server's admission plugins for that.
const (
	notPrioritised = "Priority"
	notClassified  = "RuntimeClass"
)

// policy is what objects say of Pods that need not name them.
type policy struct {
	priorities []*schedulingv1.PriorityClass // in no order
	runtimes   []*nodev1.RuntimeClass        // likewise
}

func policyOf(objects map[manifests.Key]manifests.Object) policy {
	var p policy
	for _, o := range objects {
		switch o := o.Object.(type) {
		case *schedulingv1.PriorityClass:
			p.priorities = append(p.priorities, o)
		case *nodev1.RuntimeClass:
			p.runtimes = append(p.runtimes, o)
		}
	}
	return p
}

// governing tells apart the versions of what a policy is made of, among the objects of one source.
func governing(objects []manifests.Object) (versions []string) {
	for _, o := range objects {
		switch o.Kind {
		case manifests.KindPriorityClass, manifests.KindRuntimeClass:
			versions = append(versions, o.Key().String()+" "+o.Revision)
		}
	}
	return versions
}

// policy is that of the objects of all sources.
func (s *sources) policy() policy {
	s.mu.Lock()
	defer s.mu.Unlock()
	return policyOf(s.objects())
}

// admission is what a policy makes of a Pod.
type admission struct {
	pod     *v1.Pod
	asked   *v1.Pod // see Wish, likewise
	handler string  // see Wish
	wait    Ruling
}

// admit is what a policy makes of the Pod of a source. What was made through an API was judged then, and what that came to stands.
func (s *sources) admit(pod *v1.Pod, source string, p policy) admission {
	own := *pod
	class, handler, err := s.classOf(pod, p)
	made := admission{pod: pod, handler: handler}
	if err == nil && source != SourceAPI {
		err = manifests.Classify(&own, class)
	}
	if err != nil {
		made.wait = Ruling{Held, notClassified, err.Error()}
		return made
	}
	if source != SourceAPI || pod.Spec.Priority == nil {
		if err := manifests.Prioritise(&own, p.priorities); err != nil {
			made.wait = Ruling{Held, notPrioritised, err.Error()}
			return made
		}
		own.Spec.PriorityClassName = pod.Spec.PriorityClassName // another class may be the default one later
	}
	if made.pod = &own; !equality.Semantic.DeepEqual(withoutPriority(&own).Spec, withoutPriority(pod).Spec) {
		made.asked = pod
	}
	return made
}

// classOf is the RuntimeClass of a Pod, nil for none, and the runtime handler that it names. The name of a handler needs no class.
func (s *sources) classOf(pod *v1.Pod, p policy) (class *nodev1.RuntimeClass, handler string, err error) {
	class, err = manifests.RuntimeClassOf(pod, p.runtimes)
	switch {
	case err != nil && s.handles != nil && s.handles(*pod.Spec.RuntimeClassName):
		return nil, *pod.Spec.RuntimeClassName, nil
	case class != nil:
		handler = class.Handler
	}
	return class, handler, err
}

// keepGiven has a later version of a Pod that goes on keep what it was given when it began: what objects say by now is for the next
// instance.
func keepGiven(now, was *v1.Pod) {
	now.Spec.Overhead, now.Spec.NodeSelector, now.Spec.Tolerations = was.Spec.Overhead, was.Spec.NodeSelector, was.Spec.Tolerations
}

// sameSpec says whether two Pods are the same but for their metadata.
func sameSpec(a, b *v1.Pod) bool { return a == b || equality.Semantic.DeepEqual(a.Spec, b.Spec) }

// noteRefused notes that a manifest is refused for what objects say, where nothing of it runs: what ran before it does.
func (w *worker) noteRefused(wanted *Wish) {
	if wanted == nil || wanted.Source != SourceDirectory || wanted.Wait.Verdict == Admitted || w.inst != nil && w.inst.Revision == wanted.Pod.Revision {
		w.complaint.Store(nil)
		return
	}
	r := manifests.Refusal{
		File: wanted.Pod.File, Line: wanted.Pod.Line, Reason: wanted.Wait.Message, Of: manifests.PodKey(w.key), Kept: w.inst != nil && w.inst.Ending == nil,
	}
	if was := w.complaint.Swap(&r); r.Kept && (was == nil || *was != r) {
		w.log.Error("manifest refused", "fault", r.Error())
		w.event("", v1.EventTypeWarning, "InvalidManifest", r.Error())
	}
}
