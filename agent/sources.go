package agent

import (
	"fmt"
	"slices"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podkeeper/podkeeper/agent/inputs"
	"github.com/podkeeper/podkeeper/manifests"
)

// The sources: the manifest directory, and the objects that are made through an API.
const (
	SourceDirectory = "directory"
	SourceAPI       = "API"
)

// sources are what each source of wishes wants, as it was told last, and what was ruled about it. Of two sources that name
// one Pod, the one before the other in order is followed, and the other is refused by name.
type sources struct {
	order   []string
	handles func(name string) bool                 // says whether there is a runtime handler; nil is that there is none
	drained func(pod *v1.Pod) Ruling               // whether a Pod may stay; nil is that all may
	bound   func() map[types.NamespacedName]string // what claims are bound to; nil is that none is

	mu       sync.Mutex
	sets     map[string]manifests.Set
	rulings  map[types.NamespacedName]ruled
	governed *policy               // of the objects, nil where that is to be worked out
	admitted map[*v1.Pod]admission // of Pods as they were written, by the present policy
}

// ruled is a Ruling about one revision of a Pod.
type ruled struct {
	revision string
	ruling   Ruling
}

func newSources(order ...string) *sources {
	return &sources{order: order, sets: map[string]manifests.Set{}, rulings: map[types.NamespacedName]ruled{}}
}

// rule takes over what was ruled about a revision of a Pod: it stands until that is another one, or ruled anew.
func (s *sources) rule(key types.NamespacedName, revision string, ruling Ruling) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rulings[key] = ruled{revision, ruling}
}

// tell takes over what a source wants, and answers what of it had to be mended before.
func (s *sources) tell(source string, set manifests.Set) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if before, told := s.sets[source]; !told || !slices.Equal(governing(before.Objects), governing(set.Objects)) {
		s.governed, s.admitted = nil, nil
	}
	s.sets[source] = set
}

// settled says whether all is known that is wanted: every source has spoken, and can be read.
func (s *sources) settled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known()
}

func (s *sources) known() bool {
	for _, source := range s.order {
		if set, told := s.sets[source]; !told || set.Err != nil {
			return false
		}
	}
	return true
}

// directory is what the manifest directory wants, as it was told last.
func (s *sources) directory() manifests.Set {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sets[SourceDirectory]
}

// gone says whether a Pod that no source wants is not wanted any more: the source that it came from has been read in full,
// and does not name it. What is refused there is named: a build that knows better than the one before takes no Pod away.
// What one source does not name is not gone from another.
func (s *sources) gone(source string, key types.NamespacedName) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if source == "" { // of a Pod whose record was lost
		source = s.order[0]
	}
	set, told := s.sets[source]
	return told && set.Err == nil && !slices.ContainsFunc(set.Refused, func(r manifests.Refusal) bool { return r.Of.Covers(manifests.PodKey(key)) })
}

// wishes are what all sources together want.
func (s *sources) wishes() map[types.NamespacedName]*Wish {
	s.mu.Lock()
	defer s.mu.Unlock()
	wishes := map[types.NamespacedName]*Wish{}
	objects := s.objects()
	policy := s.policyNow()
	admitted := map[*v1.Pod]admission{}
	for _, source := range s.order {
		for i := range s.sets[source].Pods {
			p := &s.sets[source].Pods[i]
			key := key(p.Pod)
			if wishes[key] != nil {
				continue
			}
			wishes[key] = s.wish(p, source, policy, admitted)
			wishes[key].Objects = named(p.Pod, objects)
			if err := s.claimsWithin(wishes[key], policy); err != nil && wishes[key].Wait.Verdict == Admitted {
				wishes[key].Wait = hold(notWithin, err.Error())
			}
			if r := s.rulings[key]; r.revision == p.Revision {
				wishes[key].Ruling = r.ruling
			}
			if s.drained != nil && wishes[key].Ruling.Verdict == Admitted {
				wishes[key].Ruling = s.drained(wishes[key].Pod.Pod)
			}
		}
	}
	s.admitted = admitted
	if !s.known() { // what is wanted may be what was ruled about
		return wishes
	}
	for key, r := range s.rulings {
		if wish := wishes[key]; wish == nil || wish.Pod.Revision != r.revision {
			delete(s.rulings, key)
		}
	}
	return wishes
}

// wish is one for a Pod as a policy has it.
func (s *sources) wish(p *manifests.Pod, source string, policy *policy, admitted map[*v1.Pod]admission) *Wish {
	made, known := s.admitted[p.Pod]
	if !known {
		made = s.admit(p.Pod, source, policy)
	}
	admitted[p.Pod] = made
	of := *p
	of.Pod = made.pod
	return &Wish{Pod: &of, Asked: made.asked, Handler: made.handler, Source: source, Wait: made.wait}
}

// objects are those of all sources, nil where one has not spoken yet. Of two with one name the one of the source before is
// followed.
func (s *sources) objects() map[manifests.Key]manifests.Object {
	all := map[manifests.Key]manifests.Object{}
	for _, source := range slices.Backward(s.order) {
		set, told := s.sets[source]
		if !told {
			return nil
		}
		for _, o := range set.Objects {
			all[o.Key()] = o
		}
	}
	return all
}

// object is one of them, if it is there.
func (s *sources) object(key manifests.Key) (o manifests.Object, there bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, there = s.objects()[key]
	return o, there
}

// services are the Services. Of two with one name the one of the source before is followed.
func (s *sources) services() (found []manifests.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := map[manifests.Key]bool{}
	for _, source := range s.order {
		for _, o := range s.sets[source].Objects {
			if o.Kind == manifests.KindService && !known[o.Key()] {
				known[o.Key()] = true
				found = append(found, o)
			}
		}
	}
	return found
}

// named are the objects that a Pod refers to, nil where they are not known. Who refers to a claim refers to whatever that may
// be bound to.
func named(pod *v1.Pod, all map[manifests.Key]manifests.Object) inputs.Objects {
	if all == nil {
		return nil
	}
	found := inputs.Objects{}
	claims := false
	for key := range inputs.References(pod) {
		if o, ok := all[key]; ok {
			found[key] = o
		}
		claims = claims || key.Kind == manifests.KindClaim
	}
	for key, o := range all {
		if claims && key.Kind == manifests.KindVolume {
			found[key] = o
		}
	}
	return found
}

// refused are the faults of all sources, and those that are faults only beside another source.
func (s *sources) refused() []manifests.Refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []manifests.Refusal
	named := map[types.NamespacedName]string{}
	for _, source := range s.order {
		set := s.sets[source]
		all = append(all, set.Refused...)
		for _, p := range set.Pods {
			key := key(p.Pod)
			if first, taken := named[key]; taken {
				all = append(all, manifests.Refusal{
					File: p.File, Line: p.Line, Field: "metadata.name", Of: manifests.PodKey(key), Kept: true,
					Reason: fmt.Sprintf("%s is given by %s already: choose another name, or remove it there", key, first),
				})
				continue
			}
			named[key] = fmt.Sprintf("the %s (%s)", source, p.File)
		}
	}
	return slices.Clip(all)
}
