package node

import (
	"regexp"
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
)

// optioned is a Pod with options of its own, of an init container, a container and an ephemeral one; nil is none.
func optioned(pod, init, app, debugger *v1.SELinuxOptions) *v1.Pod {
	of := func(o *v1.SELinuxOptions) *v1.SecurityContext { return &v1.SecurityContext{SELinuxOptions: o} }
	return &v1.Pod{Spec: v1.PodSpec{
		SecurityContext:     &v1.PodSecurityContext{SELinuxOptions: pod},
		InitContainers:      []v1.Container{{Name: "init", SecurityContext: of(init)}},
		Containers:          []v1.Container{{Name: "plain"}, {Name: "app", SecurityContext: of(app)}},
		EphemeralContainers: []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "debugger", SecurityContext: of(debugger)}}},
	}}
}

func TestWhatAPodAsksOfSELinux(t *testing.T) {
	t.Parallel()
	one, two := &v1.SELinuxOptions{Level: "s0:c1"}, &v1.SELinuxOptions{Level: "s0:c2"}
	none, kind := &v1.SELinuxOptions{}, &v1.SELinuxOptions{Type: "spc_t"}
	for sentence, r := range map[string]struct {
		pod   *v1.Pod
		has   bool
		level string
	}{
		"nothing":                                {&v1.Pod{}, false, ""},
		"nothing, in empty contexts":             {optioned(nil, nil, nil, nil), false, ""},
		"labels, as the policy has them":         {optioned(none, nil, nil, nil), true, ""},
		"a level":                                {optioned(one, two, two, nil), true, "s0:c1"},
		"a type, and a level for a container":    {optioned(kind, nil, one, nil), true, "s0:c1"},
		"levels for containers: the first one's": {optioned(nil, one, two, nil), true, "s0:c1"},
		"labels for one of its containers":       {optioned(nil, nil, none, nil), true, ""},
		"labels for an ephemeral one alone":      {optioned(nil, nil, nil, kind), false, ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			if has, level := HasLabels(r.pod), Level(r.pod); has != r.has || level != r.level {
				t.Errorf("got %v, %q", has, level)
			}
		})
	}
}

func TestALevelIsNobodyElses(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^s0:c\d{1,4},c\d{1,4}$`)
	var taken []string
	for range 3000 {
		level, ok := freeLevel(categories, taken)
		if !ok || !form.MatchString(level) || slices.Contains(taken, level) {
			t.Fatalf("got %q, %v", level, ok)
		}
		taken = append(taken, level)
	}
	if level, ok := freeLevel(2, []string{"s0:c0,c1"}); ok {
		t.Errorf("got %q where none is left", level)
	}
}
