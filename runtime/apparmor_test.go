package runtime

import (
	"errors"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/api/core/v1"
)

func TestAppArmorProfiles(t *testing.T) {
	t.Parallel()
	of := func(kind v1.AppArmorProfileType, name ...string) *v1.AppArmorProfile {
		p := &v1.AppArmorProfile{Type: kind}
		if len(name) > 0 {
			p.LocalhostProfile = &name[0]
		}
		return p
	}
	runtimeDefault, unconfined, mine := of(v1.AppArmorProfileTypeRuntimeDefault), of(v1.AppArmorProfileTypeUnconfined), of(v1.AppArmorProfileTypeLocalhost, "mine")
	for sentence, r := range map[string]struct {
		container, pod *v1.AppArmorProfile
		privileged     bool
		want           string
		without        bool // it can be set on a host without AppArmor
	}{
		"none is the default":  {nil, nil, false, "podkeeper-default", true},
		"the default":          {runtimeDefault, nil, false, "podkeeper-default", false},
		"the Pod's":            {nil, mine, false, "mine", false},
		"the container's wins": {mine, runtimeDefault, false, "mine", false},
		"the container has none, for all the Pod's": {unconfined, mine, false, "", true},
		"privileged is without the default":         {nil, nil, true, "", true},
		"also without one that was asked for":       {runtimeDefault, nil, true, "", false},
		"but not without the host's":                {mine, nil, true, "mine", false},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			cfg := secure(v1.SecurityContext{AppArmorProfile: r.container, Privileged: &r.privileged})
			cfg.Pod.Spec.SecurityContext = &v1.PodSecurityContext{AppArmorProfile: r.pod}
			same(t, r.want, written(t, cfg, withAppArmor).Process.ApparmorProfile)
			cfg.appArmor = errors.New("none here")
			s := &specs.Spec{Process: &specs.Process{ApparmorProfile: "of before"}}
			if err := withAppArmor(s, cfg); (err == nil) != r.without || err != nil && !errors.Is(err, cfg.appArmor) || s.Process.ApparmorProfile != "" {
				t.Errorf("without AppArmor: %q, %v", s.Process.ApparmorProfile, err)
			}
		})
	}
}

// On a host without AppArmor every profile is unknown, which is no error for none.
func TestAProfileThatIsNotLoaded(t *testing.T) {
	t.Parallel()
	if err := loadAppArmor(""); err != nil {
		t.Error(err)
	}
	if err := loadAppArmor("no-such-profile"); err == nil {
		t.Error("no-such-profile is loaded")
	}
}
