package manifests

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

func TestRequestsForTokens(t *testing.T) {
	t.Parallel()
	for sentence, of := range map[string]struct {
		body string
		life int64
		err  string
	}{
		"an hour is the default":          {`{}`, 3600, ""},
		"or what is asked for":            {`{"spec": {"expirationSeconds": 600, "audiences": ["vault"]}}`, 600, ""},
		"but at least ten minutes":        {`{"spec": {"expirationSeconds": 599}}`, 0, "may not specify a duration less than 10 minutes"},
		"and not for ever":                {`{"spec": {"expirationSeconds": 4294967297}}`, 0, "may not specify a duration larger than 2^32 seconds"},
		"attestations are for webhooks":   {`{"spec": {"attestations": {"a": ["b"]}}}`, 0, "attestations may only be specified with a webhook bound object reference"},
		"a field that there is not":       {`{"spec": {"expires": 600}}`, 0, `unknown field "expires"`},
		"what is no object is no request": {`[]`, 0, "read request for a token"},
	} {
		got, err := TokenRequest([]byte(of.body))
		if of.err != "" {
			if err == nil || !strings.Contains(err.Error(), of.err) {
				t.Errorf("%s: %v, want %s", sentence, err, of.err)
			}
			continue
		}
		if err != nil || *got.Spec.ExpirationSeconds != of.life {
			t.Errorf("%s: %+v, %v", sentence, got, err)
		}
	}
}

const tokenPod = `apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  initContainers: [{name: init, image: demo}]
  containers:
  - {name: app, image: demo}
  - {name: own, image: demo, volumeMounts: [{name: other, mountPath: /var/run/secrets/kubernetes.io/serviceaccount}]}
  volumes: [{name: other, emptyDir: {}}]
`

// mounts are the volumes that containers have where tokens are.
func mounts(pod *v1.Pod) (all []string) {
	for _, containers := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for _, c := range containers {
			for _, m := range c.VolumeMounts {
				all = append(all, c.Name+" "+m.Name+" "+m.MountPath)
			}
		}
	}
	return all
}

func TestTokensThatPodsAskFor(t *testing.T) {
	t.Parallel()
	read := func(text string) *v1.Pod {
		t.Helper()
		pods, refused := decodePods("web.yaml", []byte(text))
		if len(refused) > 0 || len(pods) != 1 {
			t.Fatalf("refused: %v", refused)
		}
		return pods[0].Pod
	}
	for _, unasked := range []string{"", "  automountServiceAccountToken: false\n"} {
		if pod := read(tokenPod + unasked); len(pod.Spec.Volumes) != 1 || len(mounts(pod)) != 1 {
			t.Errorf("%q gives %v", unasked, mounts(pod))
		} else if pod.Spec.ServiceAccountName != "" {
			t.Errorf("%q gives the account %q", unasked, pod.Spec.ServiceAccountName)
		}
	}
	pod := read(tokenPod + "  automountServiceAccountToken: true\n")
	want := []string{
		"init kube-api-access-token /var/run/secrets/kubernetes.io/serviceaccount", "app kube-api-access-token /var/run/secrets/kubernetes.io/serviceaccount",
		"own other /var/run/secrets/kubernetes.io/serviceaccount",
	}
	if pod.Spec.ServiceAccountName != "default" || pod.Spec.DeprecatedServiceAccount != "default" {
		t.Errorf("its account is %q", pod.Spec.ServiceAccountName)
	}
	if got := mounts(pod); !slices.Equal(got, want) {
		t.Errorf("mounted are %q, want %q", got, want)
	}
	var files []string
	for _, s := range pod.Spec.Volumes[1].Projected.Sources {
		switch {
		case s.ServiceAccountToken != nil:
			files = append(files, s.ServiceAccountToken.Path)
		case s.ConfigMap != nil:
			files = append(files, s.ConfigMap.Name+"/"+s.ConfigMap.Items[0].Path)
		case s.DownwardAPI != nil:
			files = append(files, s.DownwardAPI.Items[0].Path)
		}
	}
	if !slices.Equal(files, []string{"token", "kube-root-ca.crt/ca.crt", "namespace"}) {
		t.Errorf("the files are %q", files)
	}
	again := pod.DeepCopy()
	Default(again)
	if diff := cmp.Diff(pod, again); diff != "" {
		t.Errorf("a second time it is another Pod:\n%s", diff)
	}
	if faults := CheckEdit(again, pod); len(faults) > 0 {
		t.Errorf("it may not be written back: %v", faults)
	}
	if faults := Check(again); len(faults) > 0 {
		t.Errorf("it may not be made: %v", faults)
	}
	if got := pod.Spec.Volumes[1].Projected.DefaultMode; *got != 0o644 {
		t.Errorf("mode %o", *got)
	}
}

func TestATokenVolumeOfAnotherClusterIsTaken(t *testing.T) {
	t.Parallel()
	pod := &v1.Pod{Spec: v1.PodSpec{
		AutomountServiceAccountToken: ptr.To(true), Containers: []v1.Container{{Name: "app"}}, Volumes: []v1.Volume{{Name: "kube-api-access-x7f2q"}},
	}}
	mountToken(pod)
	if got := mounts(pod); len(pod.Spec.Volumes) != 1 || !slices.Equal(got, []string{"app kube-api-access-x7f2q " + tokenMountPath}) {
		t.Errorf("%q of %d volumes", got, len(pod.Spec.Volumes))
	}
}
