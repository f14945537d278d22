package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/agent/admit"
	"github.com/podkeeper/podkeeper/agent/evict"
)

// hardByDefault are Kubernetes' defaults of evictionHard (kubernetes/kubernetes pkg/kubelet/eviction/defaults_linux.go).
var hardByDefault = map[string]string{
	"memory.available": "100Mi", "nodefs.available": "10%", "nodefs.inodesFree": "5%", "imagefs.available": "15%", "imagefs.inodesFree": "5%",
}

// defaultTransition is Kubernetes' default of evictionPressureTransitionPeriod.
const defaultTransition = 5 * time.Minute

// evictions says when Pods go that the node has no room for. What cannot be is told by wrong.
func evictions(cfg *kubeletconfig.KubeletConfiguration, wrong func(field, format string, args ...any)) evict.Policy {
	p := evict.Policy{
		MaxPodGrace: time.Duration(cfg.EvictionMaxPodGracePeriod) * time.Second,
		Transition:  cmp.Or(cfg.EvictionPressureTransitionPeriod.Duration, defaultTransition),
	}
	if p.MaxPodGrace < 0 {
		wrong("evictionMaxPodGracePeriod", "is %d: must not be negative", cfg.EvictionMaxPodGracePeriod)
	}
	if p.Transition < 0 {
		wrong("evictionPressureTransitionPeriod", "is %s: must not be negative", p.Transition)
	}
	hard := thresholds("evictionHard", hardEvictions(cfg), wrong)
	soft := thresholds("evictionSoft", cfg.EvictionSoft, wrong)
	graces := softGraces(cfg, wrong)
	for i := range soft {
		signal := string(soft[i].Signal)
		if _, told := cfg.EvictionSoftGracePeriod[signal]; !told {
			wrong(fmt.Sprintf("evictionSoft[%s]", signal), "has no grace period: evictionSoftGracePeriod[%s] must say for how long it may be met", signal)
		}
		soft[i].Grace = graces[signal]
	}
	p.Thresholds = slices.Concat(hard, soft)
	reclaims := minimumReclaims(cfg, p, wrong)
	for i := range p.Thresholds {
		p.Thresholds[i].Reclaim = reclaims[p.Thresholds[i].Signal]
	}
	return p
}

// hardEvictions is evictionHard with what it is by default.
func hardEvictions(cfg *kubeletconfig.KubeletConfiguration) map[string]string {
	if cfg.EvictionHard == nil {
		return hardByDefault
	}
	all := maps.Clone(cfg.EvictionHard)
	if ptr.Deref(cfg.MergeDefaultEvictionSettings, false) {
		all = maps.Clone(hardByDefault)
		maps.Copy(all, cfg.EvictionHard)
	}
	return all
}

// thresholds are those of evictionHard or evictionSoft. One of nothing is none.
func thresholds(field string, from map[string]string, wrong func(field, format string, args ...any)) (all []evict.Threshold) {
	for _, name := range slices.Sorted(maps.Keys(from)) {
		signal, ok := signalOf(field, name, wrong)
		if !ok {
			continue
		}
		below, err := admit.ParseShare(from[name])
		if err != nil {
			wrong(fmt.Sprintf("%s[%s]", field, name), "%v", err)
		}
		if below != (admit.Share{}) {
			all = append(all, evict.Threshold{Signal: signal, Below: below})
		}
	}
	return all
}

// signalOf is the signal of a name, which there may not be.
func signalOf(field, name string, wrong func(field, format string, args ...any)) (evict.Signal, bool) {
	if slices.Contains(evict.Signals, evict.Signal(name)) {
		return evict.Signal(name), true
	}
	var names []string
	for _, s := range evict.Signals {
		names = append(names, string(s))
	}
	wrong(fmt.Sprintf("%s[%s]", field, name), "not supported: must be one of %s", strings.Join(names, ", "))
	return "", false
}

// softGraces are for how long soft thresholds may be met, by their signals.
func softGraces(cfg *kubeletconfig.KubeletConfiguration, wrong func(field, format string, args ...any)) map[string]time.Duration {
	all := map[string]time.Duration{}
	for _, name := range slices.Sorted(maps.Keys(cfg.EvictionSoftGracePeriod)) {
		const field = "evictionSoftGracePeriod"
		if _, ok := signalOf(field, name, wrong); !ok {
			continue
		}
		at, text := fmt.Sprintf("%s[%s]", field, name), cfg.EvictionSoftGracePeriod[name]
		period, err := time.ParseDuration(text)
		if err != nil || period <= 0 {
			wrong(at, "is %q: must be a duration above 0s, such as 1m30s", text)
		} else if _, told := cfg.EvictionSoft[name]; !told {
			wrong(at, "is of no threshold: set evictionSoft[%s], or remove it", name)
		}
		all[name] = max(period, 0)
	}
	return all
}

// minimumReclaims are what must be there beyond thresholds for pressure to be over.
func minimumReclaims(cfg *kubeletconfig.KubeletConfiguration, p evict.Policy, wrong func(field, format string, args ...any)) map[evict.Signal]admit.Share {
	all := map[evict.Signal]admit.Share{}
	for _, name := range slices.Sorted(maps.Keys(cfg.EvictionMinimumReclaim)) {
		const field = "evictionMinimumReclaim"
		signal, ok := signalOf(field, name, wrong)
		if !ok {
			continue
		}
		at, text := fmt.Sprintf("%s[%s]", field, name), cfg.EvictionMinimumReclaim[name]
		if q, err := resource.ParseQuantity(text); err == nil && q.IsZero() {
			continue
		}
		share, err := admit.ParseShare(text)
		if err != nil {
			wrong(at, "%v", err)
		} else if !p.Watches(signal) {
			wrong(at, "is of no threshold: set evictionHard[%s] or evictionSoft[%s], or remove it", name, name)
		}
		all[signal] = share
	}
	return all
}
