package node

import (
	"fmt"
	"math/rand/v2"
	"slices"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/runtime"
)

// SELinux says why no SELinux labels can be set on this host, nil where they can.
func SELinux() error { return runtime.SELinux() }

// HasLabels says whether a Pod asks for SELinux labels anywhere: all of its containers have some then, and one level, so that they can
// share its volumes. Containers of other Pods have none of their own, as under a containerd whose enable_selinux is not set.
func HasLabels(pod *v1.Pod) bool {
	return podSELinux(pod) != nil || slices.ContainsFunc(plan.Containers(pod), func(c *v1.Container) bool {
		return !plan.IsEphemeral(pod, c.Name) && containerSELinux(c) != nil
	})
}

func podSELinux(pod *v1.Pod) *v1.SELinuxOptions {
	if sc := pod.Spec.SecurityContext; sc != nil {
		return sc.SELinuxOptions
	}
	return nil
}

func containerSELinux(c *v1.Container) *v1.SELinuxOptions {
	if c != nil && c.SecurityContext != nil {
		return c.SecurityContext.SELinuxOptions
	}
	return nil
}

// Level is the SELinux level that a Pod asks for: its own, else that of the first container that asks for one, for whom the kubelet
// would label the volumes. Empty is none.
func Level(pod *v1.Pod) string {
	if o := podSELinux(pod); o != nil && o.Level != "" {
		return o.Level
	}
	for _, c := range plan.Containers(pod) {
		if o := containerSELinux(c); o != nil && o.Level != "" {
			return o.Level
		}
	}
	return ""
}

// categories are how many a policy has, of which two make a level.
const categories = 1024

// FreeLevel is a level for a Pod that asks for none, and that none has of those that are taken. false is that none was found; and empty is
// right where the host's policy has none.
func FreeLevel(taken []string) (string, bool) {
	if !runtime.SELinuxLevels() {
		return "", true
	}
	return freeLevel(categories, taken)
}

// freeLevel is one by two of so many categories, found by trying.
func freeLevel(categories int, taken []string) (string, bool) {
	for range categories {
		one, other := rand.IntN(categories), rand.IntN(categories)
		level := fmt.Sprintf("s0:c%d,c%d", min(one, other), max(one, other))
		if one != other && !slices.Contains(taken, level) {
			return level, true
		}
	}
	return "", false
}

// seLinux are the labels of a container, or of what its Pod's have together. What the container asks for takes the place of all that the
// Pod does, but for the level (kubernetes/kubernetes pkg/securitycontext, DetermineEffectiveSecurityContext).
func (n *Node) seLinux(t Target) (runtime.SELinuxLabels, error) {
	options := containerSELinux(t.Container)
	if options == nil {
		options = podSELinux(t.Pod)
	}
	if options == nil && !HasLabels(t.Pod) {
		return runtime.SELinuxLabels{}, nil
	}
	return n.Runtime.FindSELinuxLabels(t.handler(), options, t.Level)
}
