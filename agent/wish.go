package agent

import (
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/podkeeper/podkeeper/agent/inputs"
	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/manifests"
)

// Wish is what is wanted of one Pod: a version of it, and what was ruled about it. Whoever admits or evicts only asks, by
// a ruling; the Pod's worker stays the one that acts.
type Wish struct {
	Pod     *manifests.Pod
	Asked   *v1.Pod // the Pod as it was written, without what objects such as its classes give it; nil where that is nothing
	Handler string  // the runtime handler of its class; "" is the node's default
	Source  string  // which of the agent's sources named it
	Ruling  Ruling
	Wait    Ruling // why a Pod may not begin for what objects say; one that runs goes on, and on as it is where it would have to begin anew
	// Objects are those that the Pod refers to, as they were in the same moment as the Pod; nil where not all sources have
	// spoken yet.
	Objects inputs.Objects
}

// asked is the Pod as it was written.
func (w *Wish) asked() *v1.Pod {
	if w.Asked != nil {
		return w.Asked
	}
	return w.Pod.Pod
}

// Ruling says whether a Pod may run now, and if not, why, in the words of its status.
type Ruling struct {
	Verdict Verdict `json:"verdict,omitempty"`
	Reason  string  `json:"reason,omitempty"`
	Message string  `json:"message,omitempty"`

	Grace    time.Duration `json:"grace,omitempty"`    // in place of the Pod's own; 0 is that
	Disrupts bool          `json:"disrupts,omitempty"` // it is for the node's sake: the Pod has the condition DisruptionTarget
}

// hold is the ruling that a Pod may not begin.
func hold(reason, message string) Ruling {
	return Ruling{Verdict: Held, Reason: reason, Message: message}
}

// Verdict is what a Ruling comes to.
type Verdict string

// The verdicts. A Pod that is Held is Pending: it does not begin, and one that runs is ended in peace. One that is Evicted
// is ended and has Failed: its status is kept, over restarts of the agent too, until it is wanted anew or not at all.
const (
	Admitted Verdict = ""
	Held     Verdict = "held"
	Evicted  Verdict = "evicted"
)

// change is what a difference between two versions of a Pod means.
type change string

// The changes, from the least to the most.
const (
	nothing  change = "nothing"  // it is written in another way
	inPlace  change = "in place" // labels, annotations, cpu and memory: no container notices, unless its resizePolicy has it restart
	restarts change = "restart"  // images: the containers concerned are restarted, each alone
	recreate change = "recreate" // a new instance, after the old one was stopped in full
)

// difference says what it takes to make of a Pod that runs the one that is wanted. Both have Kubernetes' defaults.
func difference(running, wanted *v1.Pod) change {
	if wanted.UID != "" && wanted.UID != running.UID {
		return recreate
	}
	running, wanted = withoutPriority(running), withoutPriority(wanted)
	least := nothing
	if resources := manifests.ResourcesOf(wanted); !resources.Equal(manifests.ResourcesOf(running)) {
		resized := resources.In(running)
		if len(manifests.CheckResize(resized, running)) > 0 {
			return recreate
		}
		running, least = resized, inPlace
	}
	if equality.Semantic.DeepEqual(running.Spec, wanted.Spec) {
		if equality.Semantic.DeepEqual(running.Labels, wanted.Labels) && equality.Semantic.DeepEqual(running.Annotations, wanted.Annotations) {
			return least
		}
		return inPlace
	}
	if equality.Semantic.DeepEqual(withoutImages(running).Spec, withoutImages(wanted).Spec) {
		return restarts
	}
	return recreate
}

func withoutImages(pod *v1.Pod) *v1.Pod {
	pod = pod.DeepCopy()
	for _, c := range plan.Containers(pod) {
		c.Image, c.ImagePullPolicy = "", "" // the policy's default follows from the image
	}
	return pod
}

// withoutPriority is a Pod but for what its class comes to, which may be something else by now: a copy of its top only.
func withoutPriority(pod *v1.Pod) *v1.Pod {
	top := *pod
	top.Spec.Priority, top.Spec.PreemptionPolicy = nil, nil
	return &top
}
