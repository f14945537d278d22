package manifests

import "testing"

func TestServiceAccounts(t *testing.T) {
	t.Parallel()
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers: [{name: app, image: demo}]\n"
	for sentence, r := range map[string]struct{ spec, want string }{
		"none is none":                   {"", ""},
		"by its name":                    {"  serviceAccountName: builder\n", "builder"},
		"by the field's older name":      {"  serviceAccount: builder\n", "builder"},
		"by both, as kubectl's output":   {"  serviceAccount: builder\n  serviceAccountName: builder\n", "builder"},
		"where they differ the newer is": {"  serviceAccount: older\n  serviceAccountName: builder\n", "builder"},
		"without a token":                {"  serviceAccountName: builder\n  automountServiceAccountToken: false\n", "builder"},
	} {
		pods, refused := decodePods("web.yaml", []byte(pod+r.spec))
		if len(refused) > 0 || len(pods) != 1 {
			t.Errorf("%s: refused: %v", sentence, refused)
			continue
		}
		for _, spec := range []string{pods[0].Spec.ServiceAccountName, Normalise(pods[0].Pod).Spec.DeprecatedServiceAccount} {
			if spec != r.want {
				t.Errorf("%s: got %q, want %q", sentence, spec, r.want)
			}
		}
	}
}
