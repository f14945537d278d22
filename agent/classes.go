package agent

import (
	"slices"

	v1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/agent/admit"
	"github.com/podkeeper/podkeeper/agent/objects"
	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/manifests"
)

// Reasons of Pods that may not begin for what objects say: the names of the API server's admission plugins for that.
const (
	notPrioritised = "Priority"
	notClassified  = "RuntimeClass"
	notWithin      = "LimitRanger"
)

// policy is what objects say of Pods that need not name them.
type policy struct {
	priorities []*schedulingv1.PriorityClass // in no order
	runtimes   []*nodev1.RuntimeClass        // likewise
	limits     map[string]admit.Limits       // by namespace
}

func policyOf(objects map[manifests.Key]manifests.Object) *policy {
	p := &policy{limits: map[string]admit.Limits{}}
	ranges := map[string][]*v1.LimitRange{}
	for _, o := range objects {
		switch o := o.Object.(type) {
		case *schedulingv1.PriorityClass:
			p.priorities = append(p.priorities, o)
		case *nodev1.RuntimeClass:
			p.runtimes = append(p.runtimes, o)
		case *v1.LimitRange:
			ranges[o.Namespace] = append(ranges[o.Namespace], o)
		}
	}
	for namespace, all := range ranges {
		p.limits[namespace] = admit.NewLimits(all)
	}
	return p
}

// governing tells apart the versions of what a policy is made of, among the objects of one source.
func governing(objects []manifests.Object) (versions []string) {
	for _, o := range objects {
		switch o.Kind {
		case manifests.KindPriorityClass, manifests.KindRuntimeClass, manifests.KindLimitRange:
			versions = append(versions, o.Key().String()+" "+o.Revision)
		}
	}
	return versions
}

// policy is that of the objects of all sources.
func (s *sources) policy() *policy {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.policyNow()
}

// policyNow is the same, under the lock.
func (s *sources) policyNow() *policy {
	if s.governed == nil {
		s.governed = policyOf(s.objects())
	}
	return s.governed
}

// admission is what a policy makes of a Pod.
type admission struct {
	pod     *v1.Pod
	asked   *v1.Pod // see Wish, likewise
	handler string  // see Wish
	wait    Ruling
}

// admit is what a policy makes of the Pod of a source. What was made through an API was judged then, and what that came to stands.
func (s *sources) admit(pod *v1.Pod, source string, p *policy) admission {
	own := *pod
	class, handler, err := s.classOf(pod, p)
	made := admission{pod: pod, handler: handler}
	if err == nil && source != SourceAPI {
		err = manifests.Classify(&own, class)
	}
	if err != nil {
		made.wait = hold(notClassified, err.Error())
		return made
	}
	if source != SourceAPI || pod.Spec.Priority == nil {
		if err := manifests.Prioritise(&own, p.priorities); err != nil {
			made.wait = hold(notPrioritised, err.Error())
			return made
		}
		own.Spec.PriorityClassName = pod.Spec.PriorityClassName // another class may be the default one later
	}
	if source != SourceAPI {
		within, err := p.within(&own)
		if err != nil {
			made.wait = hold(notWithin, err.Error())
			return made
		}
		own = *within
	}
	made.pod, made.asked = &own, unlike(pod, &own)
	return made
}

// unlike is a Pod as it was written, nil where it was given nothing.
func unlike(asked, given *v1.Pod) *v1.Pod {
	if equality.Semantic.DeepEqual(withoutPriority(asked).Spec, withoutPriority(given).Spec) {
		return nil
	}
	return asked
}

// within is a Pod with the defaults of the LimitRanges of its namespace. The error is what of that, or of the Pod, they do not allow.
func (p *policy) within(pod *v1.Pod) (*v1.Pod, error) {
	limits := p.limits[pod.Namespace]
	filled := limits.Fill(pod)
	if filled != pod {
		if faults := manifests.Check(filled); len(faults) > 0 { // a default limit may be less than a request
			return nil, apierrors.NewInvalid(v1.SchemeGroupVersion.WithKind(manifests.KindPod).GroupKind(), pod.Name, faults)
		}
	}
	return filled, limits.Check(filled)
}

// claimsWithin says which claim that a Pod needs, and that is not bound yet, the LimitRanges of its namespace do not allow. Those that
// were made through an API were judged then.
func (s *sources) claimsWithin(wish *Wish, p *policy) error {
	pod, limits := wish.Pod.Pod, p.limits[wish.Pod.Namespace]
	if limits.Empty() {
		return nil
	}
	var bound map[types.NamespacedName]string
	for _, volume := range pod.Spec.Volumes {
		key := manifests.Key{Kind: manifests.KindClaim, NamespacedName: types.NamespacedName{Namespace: pod.Namespace}}
		var claim *v1.PersistentVolumeClaim
		switch {
		case volume.PersistentVolumeClaim != nil:
			key.Name = volume.PersistentVolumeClaim.ClaimName
			if claim, _ = wish.Objects[key].Object.(*v1.PersistentVolumeClaim); claim == nil || !s.inDirectory(key) {
				continue
			}
		case volume.Ephemeral != nil && volume.Ephemeral.VolumeClaimTemplate != nil:
			key.Name = pod.Name + "-" + volume.Name
			claim = &v1.PersistentVolumeClaim{Spec: volume.Ephemeral.VolumeClaimTemplate.Spec}
		default:
			continue
		}
		err := limits.CheckClaim(claim)
		if err == nil {
			continue
		}
		if bound == nil && s.bound != nil {
			bound = s.bound()
		}
		if _, is := bound[key.NamespacedName]; !is {
			return forbidden(objects.IDOf(key), err)
		}
	}
	return nil
}

// inDirectory says whether an object stands in the manifest directory.
func (s *sources) inDirectory(key manifests.Key) bool {
	return slices.ContainsFunc(s.sets[SourceDirectory].Objects, func(o manifests.Object) bool { return o.Key() == key })
}

// classOf is the RuntimeClass of a Pod, nil for none, and the runtime handler that it names. The name of a handler needs no class.
func (s *sources) classOf(pod *v1.Pod, p *policy) (class *nodev1.RuntimeClass, handler string, err error) {
	class, err = manifests.RuntimeClassOf(pod, p.runtimes)
	switch {
	case err != nil && s.handles != nil && s.handles(*pod.Spec.RuntimeClassName):
		return nil, *pod.Spec.RuntimeClassName, nil
	case class != nil:
		handler = class.Handler
	}
	return class, handler, err
}

// keepGiven has a later version of a Pod that goes on, as it is wanted, keep what the instance was given when it began: what objects
// say by now is for the next one. A container that asks for other resources than before has those that are wanted.
func keepGiven(pod *v1.Pod, wanted *Wish, inst *instance) {
	was, asked := inst.desired(), inst.asked()
	pod.Spec.Overhead, pod.Spec.NodeSelector, pod.Spec.Tolerations = was.Spec.Overhead, was.Spec.NodeSelector, was.Spec.Tolerations
	const told = admit.LimitRangerAnnotation
	if text := was.Annotations[told]; text != asked.Annotations[told] {
		metav1.SetMetaDataAnnotation(&pod.ObjectMeta, told, text)
	} else if text, is := wanted.asked().Annotations[told]; is {
		pod.Annotations[told] = text
	} else {
		delete(pod.Annotations, told)
	}
	resources := func(pod *v1.Pod) map[string]v1.ResourceRequirements {
		all := map[string]v1.ResourceRequirements{}
		for _, c := range plan.Containers(pod) {
			all[c.Name] = c.Resources
		}
		return all
	}
	had, before, now := resources(was), resources(asked), resources(wanted.asked())
	for _, c := range plan.Containers(pod) {
		if equality.Semantic.DeepEqual(before[c.Name], now[c.Name]) {
			c.Resources = had[c.Name]
		}
	}
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
