package manifests

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
)

// manifest is a small good Pod of a name; words tell one version of it from another.
func manifest(name string, words ...string) string {
	args, err := json.Marshal(words)
	if err != nil {
		panic(err)
	}
	return "apiVersion: v1\nkind: Pod\nmetadata:\n  name: " + name + "\nspec:\n  containers:\n  - name: app\n    image: demo:v1\n" +
		"    args: " + string(args) + "\n"
}

func decodeOne(t *testing.T, text string) Pod {
	t.Helper()
	pods, refused := decodePods("x.yaml", []byte(text))
	if len(pods) != 1 || len(refused) > 0 {
		t.Fatalf("%d Pods, refused: %q", len(pods), messages(refused))
	}
	return pods[0]
}

// decodePods is Decode where only Pods are of interest.
func decodePods(file string, data []byte) ([]Pod, []Refusal) {
	set := Decode(file, data)
	return set.Pods, set.Refused
}

func TestAccepted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		manifest string
		want     []string
	}{
		"one Pod":                          {manifest("web"), []string{"default/web"}},
		"a namespace":                      {strings.Replace(manifest("web"), "name: web", "name: web\n  namespace: team", 1), []string{"team/web"}},
		"several documents and empty ones": {"---\n# a\n" + manifest("a") + "---\n\n--- # b\n" + manifest("b") + "...\n---\n", []string{"default/a", "default/b"}},
		"a YAML directive":                 {"%YAML 1.1\n---\n" + manifest("a"), []string{"default/a"}},
		"Windows line ends and a byte order mark": {"\ufeff" + strings.ReplaceAll(manifest("a"), "\n", "\r\n"), []string{"default/a"}},
		"three dashes in a text":                  {manifest("a") + "    command:\n    - |\n      x\n      ---\n      y\n", []string{"default/a"}},
		"a list":                                  {"apiVersion: v1\nkind: List\nmetadata: {resourceVersion: \"\"}\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, image: b}]}}\n", []string{"default/a"}},
		"a list with nothing on it":               {"apiVersion: v1\nkind: List\nitems: []\n", nil},
		"a list of Pods that need no kind":        {"apiVersion: v1\nkind: PodList\nitems:\n- {metadata: {name: a}, spec: {containers: [{name: a, image: b}]}}\n", []string{"default/a"}},
		"JSON":                                    {"{\n\t\"apiVersion\": \"v1\", \"kind\": \"Pod\",\n\t\"metadata\": {\"name\": \"a\"},\n\t\"spec\": {\"containers\": [{\"name\": \"a\", \"image\": \"b\"}]}\n}\n", []string{"default/a"}},
		"anchors and merges":                      {manifest("a") + "    resources: &r {limits: {cpu: 1}}\n  - name: two\n    image: demo\n    resources:\n      <<: *r\n", []string{"default/a"}},
		"a privileged container":                  {manifest("a") + "    securityContext: {privileged: true}\n", []string{"default/a"}},
		"YAML 1.1 booleans":                       {manifest("a") + "  hostNetwork: yes\n", []string{"default/a"}},
		"a date is text":                          {manifest("a") + "    workingDir: 2024-01-01\n", []string{"default/a"}},
		"quantities as numbers":                   {manifest("a") + "    resources: {limits: {cpu: 0.5, memory: 128974848}}\n", []string{"default/a"}},
		"a numeric label key":                     {strings.Replace(manifest("a"), "name: a", "name: a\n  labels: {1: \"x\"}", 1), []string{"default/a"}},
		"what kubectl run --dry-run prints":       {"apiVersion: v1\nkind: Pod\nmetadata:\n  creationTimestamp: null\n  labels:\n    run: a\n  name: a\nspec:\n  containers:\n  - image: b\n    name: a\n    resources: {}\n  dnsPolicy: ClusterFirst\n  restartPolicy: Always\nstatus: {}\n", []string{"default/a"}},
		"what the API server writes":              {strings.Replace(manifest("a"), "name: a", "name: a\n  generation: 1\n  resourceVersion: \"7\"\n  managedFields: [{whatever: 1}]\n  selfLink: /x\n  uid: 5c2d2f3e-0000-4000-8000-000000000000", 1) + "status: {phase: Running, newInALaterVersion: 1}\n", []string{"default/a"}},
		"defaults that were written out":          {manifest("a") + "  schedulerName: default-scheduler\n  serviceAccountName: \"\"\n  nodeName: \"\"\n  automountServiceAccountToken: false\n  preemptionPolicy: PreemptLowerPriority\n  priority: 0\n  nodeSelector: {}\n  tolerations: []\n  affinity: null\n  enableServiceLinks: true\n  os: {name: linux}\n", []string{"default/a"}},
		"a file of five resources":                {manifest("a") + "    resources: {requests: {cpu: 1, memory: 1Gi}, limits: {cpu: 2}}\n    resizePolicy: [{resourceName: cpu, restartPolicy: NotRequired}]\n", []string{"default/a"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pods, refused := decodePods("x.yaml", []byte(c.manifest))
			if diff := cmp.Diff(c.want, names(pods)); diff != "" || len(refused) > 0 {
				t.Errorf("Pods (-want +got):\n%s\nrefused: %q", diff, messages(refused))
			}
		})
	}
}

func TestDefaultsAreThoseOfKubernetes(t *testing.T) {
	t.Parallel()
	pod := decodeOne(t, manifest("web")+"    ports: [{containerPort: 80}]\n    resources: {limits: {cpu: 1, memory: 64Mi}}\n"+
		"    readinessProbe: {httpGet: {port: 80}}\n  hostNetwork: true\n  volumes: [{name: v}]\n")
	c := pod.Spec.Containers[0]
	got := []any{
		pod.Kind, pod.APIVersion, pod.UID, pod.Spec.RestartPolicy, *pod.Spec.TerminationGracePeriodSeconds, pod.Spec.DNSPolicy,
		*pod.Spec.EnableServiceLinks, pod.Spec.Volumes[0].EmptyDir != nil, c.ImagePullPolicy, c.TerminationMessagePath,
		c.Ports[0].HostPort, c.Resources.Requests.Cpu().String(), c.Resources.Requests.Memory().String(),
		c.ReadinessProbe.PeriodSeconds, c.ReadinessProbe.FailureThreshold, c.ReadinessProbe.HTTPGet.Path,
		c.ReadinessProbe.TimeoutSeconds, c.ReadinessProbe.SuccessThreshold, c.ReadinessProbe.InitialDelaySeconds, c.ReadinessProbe.HTTPGet.Scheme,
	}
	want := []any{
		"Pod", "v1", pod.UID, v1.RestartPolicyAlways, int64(30), v1.DNSClusterFirst,
		true, true, v1.PullIfNotPresent, "/dev/termination-log",
		int32(80), "1", "64Mi",
		int32(10), int32(3), "/",
		int32(1), int32(1), int32(0), v1.URISchemeHTTP,
	}
	if diff := cmp.Diff(want, got); diff != "" || pod.UID != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
}

func TestThePullPolicyFollowsTheImagesName(t *testing.T) {
	t.Parallel()
	digest := "@sha256:" + strings.Repeat("a", 64)
	for image, want := range map[string]v1.PullPolicy{
		"shop":                                  v1.PullAlways,
		"shop:latest":                           v1.PullAlways,
		"registry.example:5000/shop":            v1.PullAlways,
		"shop:1":                                v1.PullIfNotPresent,
		"registry.example:5000/shop:latest-1":   v1.PullIfNotPresent,
		"shop" + digest:                         v1.PullIfNotPresent,
		"registry.example/shop:latest" + digest: v1.PullAlways, // its tag is latest all the same
	} {
		pod := decodeOne(t, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"name":"a","image":"`+image+`"}]}}`)
		if got := pod.Spec.Containers[0].ImagePullPolicy; got != want {
			t.Errorf("%s: got %s, want %s", image, got, want)
		}
	}
}

func TestEveryCharacterOfJSONIsRead(t *testing.T) {
	t.Parallel()
	pod := decodeOne(t, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","annotations":{"x":"\ud83d\ude00 \\ud83d \/ \u00e4"}},`+
		`"spec":{"containers":[{"name":"a","image":"b"}]}}`)
	if got, want := pod.Annotations["x"], "😀 \\ud83d / ä"; got != want {
		t.Errorf("read %q, want %q", got, want)
	}
}

func TestHostileManifestsEnd(t *testing.T) {
	t.Parallel()
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		p := string(c - 1)
		bomb += string(c) + ": &" + string(c) + " [" + strings.TrimSuffix(strings.Repeat("*"+p+",", 9), ",") + "]\n"
	}
	merges := "m0: &m0 {a: b}\n"
	for i := range 30 {
		n, p := string(rune('a'+i%26))+strings.Repeat("x", i/26), "m0"
		if i > 0 {
			p = string(rune('a'+(i-1)%26)) + strings.Repeat("x", (i-1)/26)
		}
		merges += n + ": &" + n + " {<<: [*" + p + ", *" + p + ", *" + p + "]}\n"
	}
	for name, text := range map[string]string{
		"aliases that unfold without end": bomb + manifest("web") + "    command: *j\n",
		"merges that unfold without end":  strings.ReplaceAll(manifest("web")+"  nodeSelector: {<<: *dxxxx}\n", "dxxxx", "dx") + merges,
		"merges without end, in order":    merges + manifest("web") + "  nodeSelector:\n    <<: *dx\n",
		"a merge of itself":               manifest("web") + "  nodeSelector: &a\n    <<: *a\n",
		"a hundred thousand typos":        manifest("web") + strings.Repeat("    contianers: 1\n", 1000),
		"deep nesting":                    manifest("web") + "    command: " + strings.Repeat("[", 5000),
	} {
		pods, refused := decodePods("x.yaml", []byte(text))
		if len(pods) > 0 || len(refused) == 0 || len(refused) > 2*maxFaults+1 {
			t.Errorf("%s: %d Pods, %d refusals", name, len(pods), len(refused))
		}
	}
}

// FuzzDecode holds Decode to what its callers rely on, whatever is in a file.
func FuzzDecode(f *testing.F) {
	for _, c := range refusals(f) {
		if len(c.manifest) < 1<<16 {
			f.Add(c.manifest)
		}
	}
	for _, c := range ofEveryKind {
		f.Add([]byte(c.manifest))
	}
	for _, file := range []string{"examples/web.yaml", "examples/more/pair.yaml"} {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		set := Decode("x.yaml", data)
		seen := make(map[Key]bool)
		for _, p := range set.Pods {
			set.Objects = append(set.Objects, Object{Object: p.Pod, Kind: KindPod, Revision: p.Revision, Line: p.Line})
		}
		for _, o := range set.Objects {
			if o.GetName() == "" || (o.GetNamespace() == "") != kinds[o.Kind].clusterWide || o.Revision == "" || o.Line < 1 || seen[o.Key()] {
				t.Errorf("%s is not fit", o.Key())
			}
			seen[o.Key()] = true
		}
		for _, r := range set.Refused {
			if r.Reason == "" || r.Line < 0 || r.Line > len(data)+1 {
				t.Errorf("a refusal without a reason or out of the file: %+v", r)
			}
		}
		again := Decode("y.yaml", data)
		for i := range again.Pods {
			if again.Pods[i].Revision != set.Pods[i].Revision {
				t.Errorf("Pod %q has two revisions", again.Pods[i].Name)
			}
		}
	})
}
