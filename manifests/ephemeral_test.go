package manifests

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAddEphemeral(t *testing.T) {
	t.Parallel()
	running := Normalise(&v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", UID: "1"}, Spec: v1.PodSpec{
		Containers: []v1.Container{{Name: "app", Image: "app:1"}},
		Volumes:    []v1.Volume{{Name: "data", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}}},
	}})
	first, err := AddEphemeral(running, []byte(`{"name": "look", "image": "busybox", "targetContainerName": "app", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := first.Spec.EphemeralContainers[0]; got.ImagePullPolicy != v1.PullAlways || got.TerminationMessagePath == "" || len(running.Spec.EphemeralContainers) != 0 {
		t.Errorf("it has no defaults, or the Pod that runs was changed: %+v", got)
	}
	for sentence, c := range map[string]struct{ container, want string }{
		"a second one":                {`{"name": "more", "image": "busybox"}`, ""},
		"a name that is taken":        {`{"name": "look", "image": "busybox"}`, `spec.ephemeralContainers[1].name: Duplicate value: "look"`},
		"also by a container":         {`{"name": "app", "image": "busybox"}`, "Duplicate value"},
		"no image":                    {`{"name": "more"}`, "spec.ephemeralContainers[1].image: Required value"},
		"a probe":                     {`{"name": "more", "image": "busybox", "livenessProbe": {"tcpSocket": {"port": 1}}}`, "livenessProbe: Forbidden"},
		"ports":                       {`{"name": "more", "image": "busybox", "ports": [{"containerPort": 1}]}`, "ports: Forbidden"},
		"a target that there is not":  {`{"name": "more", "image": "busybox", "targetContainerName": "db"}`, `targetContainerName: Not found: "db"`},
		"a volume that there is not":  {`{"name": "more", "image": "busybox", "volumeMounts": [{"name": "x", "mountPath": "/x"}]}`, "volumeMounts[0].name: Not found"},
		"a field that does not work":  {`{"name": "more", "image": "busybox", "volumeDevices": [{"name": "x", "devicePath": "/x"}]}`, "spec.ephemeralContainers[1].volumeDevices: not supported"},
		"a field that there is not":   {`{"name": "more", "img": "busybox"}`, `unknown field "img"`},
		"what is no container at all": {`[]`, "read ephemeral container"},
		"a YAML document is as good":  {"name: more\nimage: busybox\n", ""},
	} {
		_, err := AddEphemeral(first, []byte(c.container))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", sentence, err, c.want)
		}
	}
}
