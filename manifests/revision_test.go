package manifests

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

func TestRevision(t *testing.T) {
	t.Parallel()
	base := manifest("web", "a", "b") + "    resources: {limits: {cpu: 500m, memory: 1Gi}}\n"
	revision := decodeOne(t, base).Revision
	for name, edited := range map[string]string{
		"comments and blank lines":    "# hello\n\n" + base,
		"another place in the file":   "---\n# nothing\n---\n" + base,
		"another order of keys":       "spec:\n  containers:\n  - args: [a, b]\n    image: demo:v1\n    resources: {limits: {memory: 1Gi, cpu: 500m}}\n    name: app\nmetadata: {name: web}\nkind: Pod\napiVersion: v1\n",
		"amounts written another way": strings.NewReplacer("500m", "0.5", "1Gi", "1024Mi").Replace(base),
		"an amount as text":           strings.Replace(base, "500m", `"0.5"`, 1),
		"what the API server adds":    base + "status: {phase: Running}\n",
		"the default namespace":       strings.Replace(base, "name: web", "name: web\n  namespace: default", 1),
		"empty labels":                strings.Replace(base, "name: web", "name: web\n  labels: {}", 1),
		"an empty list":               base + "    ports: []\n",
		"nothing, spelt out":          base + "  initContainers: null\n",
		"no requests, spelt out":      strings.Replace(base, "{limits:", "{requests: {}, limits:", 1),
	} {
		if got := decodeOne(t, edited).Revision; got != revision {
			t.Errorf("%s: another revision", name)
		}
	}
	for name, edited := range map[string]string{
		"an argument":                 strings.Replace(base, `"a","b"`, `"a","c"`, 1),
		"an image":                    strings.Replace(base, "demo:v1", "demo:v2", 1),
		"a limit":                     strings.Replace(base, "500m", "501m", 1),
		"a label":                     strings.Replace(base, "name: web", "name: web\n  labels: {a: b}", 1),
		"an annotation":               strings.Replace(base, "name: web", "name: web\n  annotations: {a: b}", 1),
		"a UID":                       strings.Replace(base, "name: web", "name: web\n  uid: abc", 1),
		"a default that is spelt out": base + "  restartPolicy: Always\n",
		"a mapping that says that something is there": base + "  securityContext: {}\n",
	} {
		if got := decodeOne(t, edited).Revision; got == revision {
			t.Errorf("%s: the same revision", name)
		}
	}
	// Pinned: a revision that changes with a release of podkeeper, or of its libraries, would start every Pod anew.
	const want = "ba00ad19669ff1397877f9eb6a6ed4c3"
	if revision != want {
		t.Errorf("revision %s, want %s", revision, want)
	}
}

func TestADefaultOfALaterLibraryIsNoEdit(t *testing.T) {
	t.Parallel()
	read := func(further func(*v1.Pod)) (*v1.Pod, string) {
		pod := new(v1.Pod)
		if err := yaml.Unmarshal([]byte(manifest("web", "a")), pod); err != nil {
			t.Fatal(err)
		}
		of := kinds[KindPod]
		complete := of.complete
		of.complete = func(o metav1.Object, at *field.Path) []fault {
			defer further(o.(*v1.Pod))
			return complete(o, at)
		}
		revision, faults := of.judge(pod, nil)
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		return pod, revision
	}
	now, revision := read(func(*v1.Pod) {})
	later, laterRevision := read(func(pod *v1.Pod) {
		pod.Spec.Hostname = "new"
		pod.Spec.Containers[0].WorkingDir = "/new"
	})
	if revision != laterRevision || revision == "" {
		t.Errorf("revision %s, and %s with further defaults", revision, laterRevision)
	}
	if now.Spec.RestartPolicy == "" || later.Spec.Hostname != "new" {
		t.Error("the defaults are not filled in")
	}
}

// TestEveryFieldIsPartOfTheRevision changes, and leaves out, one field after the other of a Pod that has all that work.
func TestEveryFieldIsPartOfTheRevision(t *testing.T) {
	t.Parallel()
	pod := new(v1.Pod)
	everything(reflect.ValueOf(pod).Elem())
	hash := func() string {
		revision, err := revise(pod)
		if err != nil {
			t.Fatal(err)
		}
		return revision
	}
	base, tried := hash(), 0
	try := func(what string, v, other reflect.Value) {
		was := reflect.New(v.Type()).Elem()
		was.Set(v)
		v.Set(other)
		if hash() == base {
			t.Errorf("%s: the same revision", what)
		}
		v.Set(was)
		tried++
	}
	var walk func(path string, v reflect.Value)
	walk = func(path string, v reflect.Value) {
		switch {
		case v.Kind() == reflect.Pointer:
			walk(path, v.Elem())
		case v.Kind() == reflect.Slice:
			walk(path+"[0]", v.Index(0))
			try(path+": an item more", v, reflect.AppendSlice(v, v))
		case v.Kind() == reflect.Map:
			other := reflect.MakeMap(v.Type())
			other.SetMapIndex(reflect.ValueOf("other").Convert(v.Type().Key()), v.MapIndex(v.MapKeys()[0]))
			try(path+": another key", v, other)
		case v.Kind() == reflect.Struct && !leaf(v.Type()):
			for name, f := range jsonFields(v.Type()) {
				if value := v.FieldByIndex(f.index); set(value) {
					try(path+"."+name+" left out", value, reflect.Zero(value.Type()))
					walk(path+"."+name, value)
				}
			}
		default:
			try(path, v, another(v))
		}
	}
	walk("metadata", reflect.ValueOf(&pod.ObjectMeta).Elem())
	walk("spec", reflect.ValueOf(&pod.Spec).Elem())
	if hash() != base || tried < 300 {
		t.Errorf("%d edits tried; the Pod is as before: %t", tried, hash() == base)
	}
}

// everything sets each field that works, and in it each field.
func everything(v reflect.Value) {
	switch {
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		everything(v.Elem())
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		everything(v.Index(0))
	case v.Kind() == reflect.Map:
		value := reflect.New(v.Type().Elem()).Elem()
		everything(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("key").Convert(v.Type().Key()), value)
	case v.Kind() == reflect.Struct && !leaf(v.Type()):
		for _, f := range jsonFields(v.Type()) {
			if verdict := f.rule().verdict; verdict == yes || verdict == some {
				everything(v.FieldByIndex(f.index))
			}
		}
	default:
		v.Set(another(v))
	}
}

// another is a value of the same type.
func another(v reflect.Value) reflect.Value {
	switch was := v.Interface().(type) {
	case resource.Quantity:
		was.Add(resource.MustParse("1"))
		return reflect.ValueOf(was)
	case intstr.IntOrString:
		if was.Type == intstr.Int {
			return reflect.ValueOf(intstr.FromString(was.String()))
		}
		return reflect.ValueOf(intstr.FromInt32(was.IntVal + 1))
	}
	other := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.String:
		other.SetString(v.String() + "x")
	case reflect.Bool:
		other.SetBool(!v.Bool())
	default:
		other.SetInt(v.Int() + 1)
	}
	return other
}

func TestNormalise(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("examples/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{
		"a small Pod": manifest("web"),
		"a Pod with much to default": manifest("web") + "    ports: [{containerPort: 80}]\n    resources: {limits: {cpu: 1500u}}\n" +
			"    readinessProbe: {httpGet: {port: 80}}\n    livenessProbe: {grpc: {port: 1}}\n" +
			"    env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]\n" +
			"  hostNetwork: true\n  volumes: [{name: v}, {name: h, hostPath: {path: /}}]\n",
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[file] = string(data)
	}
	for name, text := range texts {
		pods, _ := decodePods("x.yaml", []byte(text))
		for _, pod := range pods {
			before := pod.DeepCopy()
			normal := Normalise(pod.Pod)
			if diff := cmp.Diff(pod.Pod, normal); diff != "" {
				t.Errorf("%s: normalised (-decoded +normalised):\n%s", name, diff)
			}
			if normal == pod.Pod || !reflect.DeepEqual(before, pod.Pod) {
				t.Errorf("%s: it is no copy", name)
			}
			record, err := json.Marshal(pod.Pod)
			if err != nil {
				t.Fatal(err)
			}
			recorded := new(v1.Pod)
			if err := json.Unmarshal(record, recorded); err != nil {
				t.Fatal(err)
			}
			if !equality.Semantic.DeepEqual(Normalise(recorded), pod.Pod) {
				t.Errorf("%s: a record of it differs: %s", name, cmp.Diff(pod.Pod, Normalise(recorded)))
			}
		}
	}
}

func TestARecordWithoutALaterDefaultIsNormalised(t *testing.T) {
	t.Parallel()
	pod := decodeOne(t, manifest("web"))
	old := pod.DeepCopy()
	old.Spec.EnableServiceLinks = nil
	old.Spec.Containers[0].TerminationMessagePolicy = ""
	if diff := cmp.Diff(pod.Pod, Normalise(old)); diff != "" {
		t.Errorf("a record of a build without two of the defaults (-now +normalised):\n%s", diff)
	}
	old.Spec.Hostname = "other"
	if cmp.Equal(pod.Pod, Normalise(old)) {
		t.Error("what is set is lost")
	}
}
