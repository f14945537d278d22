package manifests

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

func TestAppArmorByAnnotation(t *testing.T) {
	t.Parallel()
	const pod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n  annotations: {%s}\nspec:\n  containers: [{name: app, image: demo%s}]\n%s"
	const key = "container.apparmor.security.beta.kubernetes.io/app: "
	local := &v1.AppArmorProfile{Type: v1.AppArmorProfileTypeLocalhost, LocalhostProfile: ptr.To("mine")}
	for sentence, r := range map[string]struct {
		annotation, container, spec string
		want                        *v1.AppArmorProfile
	}{
		"none":                          {"", "", "", nil},
		"the runtime's default":         {key + "runtime/default", "", "", &v1.AppArmorProfile{Type: v1.AppArmorProfileTypeRuntimeDefault}},
		"no profile":                    {key + "unconfined", "", "", &v1.AppArmorProfile{Type: v1.AppArmorProfileTypeUnconfined}},
		"one of the host's":             {key + "localhost/mine", "", "", local},
		"a field says the same":         {key + "localhost/mine", ", securityContext: {appArmorProfile: {type: Localhost, localhostProfile: mine}}", "", local},
		"the Pod's field says another":  {key + "localhost/mine", "", "  securityContext: {appArmorProfile: {type: Unconfined}}\n", local},
		"the Pod's field says the same": {key + "unconfined", "", "  securityContext: {appArmorProfile: {type: Unconfined}}\n", nil},
		"a field alone":                 {"", ", securityContext: {appArmorProfile: {type: Localhost, localhostProfile: mine}}", "", local},
	} {
		pods, refused := decodePods("web.yaml", fmt.Appendf(nil, pod, r.annotation, r.container, r.spec))
		if len(refused) > 0 || len(pods) != 1 {
			t.Errorf("%s: refused: %v", sentence, refused)
			continue
		}
		for _, p := range []*v1.Pod{pods[0].Pod, Normalise(pods[0].Pod)} {
			var got *v1.AppArmorProfile
			if sc := p.Spec.Containers[0].SecurityContext; sc != nil {
				got = sc.AppArmorProfile
			}
			if diff := cmp.Diff(r.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", sentence, diff)
			}
		}
	}
}
