package admit

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/kubernetes/pkg/apis/core"                    //nolint:depguard // only this test holds the arithmetic to Kubernetes' own
	corev1 "k8s.io/kubernetes/pkg/apis/core/v1"          //nolint:depguard // likewise
	"k8s.io/kubernetes/plugin/pkg/admission/limitranger" //nolint:depguard // likewise: 20 MB more in the agent
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"
)

// limited is a container with requests and limits.
func limited(name, requests, limits string) v1.Container {
	return v1.Container{Name: name, Resources: v1.ResourceRequirements{Requests: list(requests), Limits: list(limits)}}
}

// rangeOf is a LimitRange, with Kubernetes' defaults.
func rangeOf(name string, items ...v1.LimitRangeItem) *v1.LimitRange {
	r := &v1.LimitRange{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1.LimitRangeSpec{Limits: items}}
	corev1.SetObjectDefaults_LimitRange(r)
	return r
}

func each(of v1.LimitType, change func(*v1.LimitRangeItem)) v1.LimitRangeItem {
	item := v1.LimitRangeItem{Type: of}
	change(&item)
	return item
}

func TestLimits(t *testing.T) {
	t.Parallel()
	highest := func(of v1.LimitType, text string) *v1.LimitRange {
		return rangeOf("max", each(of, func(i *v1.LimitRangeItem) { i.Max = list(text) }))
	}
	lowest := func(of v1.LimitType, text string) *v1.LimitRange {
		return rangeOf("min", each(of, func(i *v1.LimitRangeItem) { i.Min = list(text) }))
	}
	even := func(text string) *v1.LimitRange {
		return rangeOf("ratio", each(v1.LimitTypeContainer, func(i *v1.LimitRangeItem) { i.MaxLimitRequestRatio = list(text) }))
	}
	one := func(requests, limits string) v1.PodSpec {
		return v1.PodSpec{Containers: []v1.Container{limited("app", requests, limits)}}
	}
	beside := func(init, requests, limits string) v1.PodSpec {
		spec := one(requests, limits)
		spec.InitContainers = []v1.Container{limited("init", init, init)}
		return spec
	}
	for sentence, r := range map[string]struct {
		ranges []*v1.LimitRange
		spec   v1.PodSpec
		want   string
	}{
		"no range, no limit":                        {nil, one("", "cpu=100"), ""},
		"a limit that is the maximum":               {[]*v1.LimitRange{highest("Container", "cpu=1")}, one("cpu=500m", "cpu=1"), ""},
		"a limit above it":                          {[]*v1.LimitRange{highest("Container", "cpu=1")}, one("cpu=500m", "cpu=2"), "maximum cpu usage per Container is 1, but limit is 2"},
		"a limit that is a thousandth above it":     {[]*v1.LimitRange{highest("Container", "cpu=1")}, one("cpu=500m", "cpu=1001m"), "maximum cpu usage per Container is 1, but limit is 1001m"},
		"no limit has the maximum as its default":   {[]*v1.LimitRange{highest("Container", "cpu=1")}, one("", ""), ""},
		"a request above the maximum":               {[]*v1.LimitRange{highest("Container", "cpu=1")}, one("cpu=2", ""), "maximum cpu usage per Container is 1, but request is 2"},
		"an init container counts, too":             {[]*v1.LimitRange{highest("Container", "cpu=1")}, beside("cpu=3", "", ""), "maximum cpu usage per Container is 1, but limit is 3"},
		"a request below the minimum":               {[]*v1.LimitRange{lowest("Container", "memory=64Mi")}, one("memory=32Mi", ""), "minimum memory usage per Container is 64Mi, but request is 32Mi"},
		"a limit below it, of which nothing is due": {[]*v1.LimitRange{lowest("Container", "memory=64Mi")}, one("memory=64Mi", "memory=32Mi"), "minimum memory usage per Container is 64Mi, but limit is 32Mi"},
		"a Pod has no default":                      {[]*v1.LimitRange{lowest("Pod", "memory=64Mi")}, one("", ""), "minimum memory usage per Pod is 64Mi.  No request is specified"},
		"nor a limit":                               {[]*v1.LimitRange{highest("Pod", "memory=64Mi")}, one("memory=1Mi", ""), "maximum memory usage per Pod is 64Mi.  No limit is specified"},
		"a Pod is the sum of its containers": {[]*v1.LimitRange{highest("Pod", "cpu=2")},
			v1.PodSpec{Containers: []v1.Container{limited("a", "", "cpu=1"), limited("b", "", "cpu=1500m")}}, "maximum cpu usage per Pod is 2, but limit is 2500m"},
		"or the most of its init containers":    {[]*v1.LimitRange{highest("Pod", "cpu=2")}, beside("cpu=3", "cpu=1", "cpu=1"), "maximum cpu usage per Pod is 2, but limit is 3"},
		"overhead does not count":               {[]*v1.LimitRange{highest("Pod", "cpu=2")}, v1.PodSpec{Overhead: list("cpu=1"), Containers: []v1.Container{limited("a", "cpu=2", "cpu=2")}}, ""},
		"a limit of twice the request":          {[]*v1.LimitRange{even("cpu=2")}, one("cpu=500m", "cpu=1"), ""},
		"of more than that":                     {[]*v1.LimitRange{even("cpu=2")}, one("cpu=500m", "cpu=1100m"), "cpu max limit to request ratio per Container is 2, but provided ratio is 2.200000"},
		"a ratio may be less than a whole":      {[]*v1.LimitRange{even("memory=1500m")}, one("memory=1Gi", "memory=2Gi"), "memory max limit to request ratio per Container is 1500m, but provided ratio is 2.000000"},
		"a ratio wants a request":               {[]*v1.LimitRange{even("cpu=2")}, one("", ""), "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0"},
		"and a limit":                           {[]*v1.LimitRange{even("cpu=2")}, one("cpu=1", ""), "cpu max limit to request ratio per Container is 2, but no limit is specified or limit is 0"},
		"all that one range says is told":       {[]*v1.LimitRange{highest("Container", "cpu=1 memory=1Gi")}, one("", "cpu=2 memory=2Gi"), "[maximum cpu usage per Container is 1, but limit is 2, maximum memory usage per Container is 1Gi, but limit is 2Gi]"},
		"and of several ranges the first one":   {[]*v1.LimitRange{lowest("Container", "cpu=3"), highest("Container", "cpu=1")}, one("", "cpu=2"), "maximum cpu usage per Container is 1, but limit is 2"},
		"huge pages and devices have limits":    {[]*v1.LimitRange{highest("Container", "hugepages-2Mi=4Mi example.com/gpu=1")}, one("hugepages-2Mi=8Mi", "hugepages-2Mi=8Mi"), "maximum hugepages-2Mi usage per Container is 4Mi, but limit is 8Mi"},
		"so many that thousandths are too many": {[]*v1.LimitRange{highest("Container", "memory=8Ei")}, one("memory=9000P", "memory=9000P"), ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			limits := NewLimits(r.ranges)
			pod := limits.Fill(&v1.Pod{Spec: r.spec})
			got := ""
			if err := limits.Check(pod); err != nil {
				got = err.Error()
			}
			if got != r.want {
				t.Errorf("got  %s\nwant %s", got, r.want)
			}
		})
	}
}

func TestLimitsAreFilledIn(t *testing.T) {
	t.Parallel()
	own := rangeOf("own", each(v1.LimitTypeContainer, func(i *v1.LimitRangeItem) {
		i.Default, i.DefaultRequest = list("cpu=1 memory=1Gi"), list("cpu=100m")
	}))
	another := rangeOf("z", each(v1.LimitTypeContainer, func(i *v1.LimitRangeItem) { i.Default = list("cpu=9 ephemeral-storage=1Gi") }))
	pod := &v1.Pod{Spec: v1.PodSpec{
		Containers:     []v1.Container{limited("app", "", ""), limited("own", "cpu=50m memory=1Mi ephemeral-storage=1", "cpu=2 memory=2Mi ephemeral-storage=2")},
		InitContainers: []v1.Container{limited("init", "cpu=1m", "")},
	}}
	was := pod.DeepCopy()
	for sentence, r := range map[string]struct {
		ranges []*v1.LimitRange
		app    v1.ResourceRequirements
		init   v1.ResourceRequirements
		told   string
	}{
		"without a range nothing is": {},
		"nor by one that has no defaults": {ranges: []*v1.LimitRange{rangeOf("max", each(v1.LimitTypePod, func(i *v1.LimitRangeItem) { i.Max = list("cpu=1") }))},
			init: v1.ResourceRequirements{Requests: list("cpu=1m")}},
		"what is not written is the default, and a default limit is a request": {[]*v1.LimitRange{own},
			v1.ResourceRequirements{Requests: list("cpu=100m memory=1Gi"), Limits: list("cpu=1 memory=1Gi")},
			v1.ResourceRequirements{Requests: list("cpu=1m memory=1Gi"), Limits: list("cpu=1 memory=1Gi")},
			"LimitRanger plugin set: cpu, memory request for container app; cpu, memory limit for container app; memory request for init container init; cpu, memory limit for init container init"},
		"of several ranges the first one fills in, and the last one tells": {[]*v1.LimitRange{another, own},
			v1.ResourceRequirements{Requests: list("cpu=100m memory=1Gi ephemeral-storage=1Gi"), Limits: list("cpu=1 memory=1Gi ephemeral-storage=1Gi")},
			v1.ResourceRequirements{Requests: list("cpu=1m memory=1Gi ephemeral-storage=1Gi"), Limits: list("cpu=1 memory=1Gi ephemeral-storage=1Gi")},
			"LimitRanger plugin set: ephemeral-storage request for container app; ephemeral-storage limit for container app; ephemeral-storage request for init container init; ephemeral-storage limit for init container init"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			got := NewLimits(r.ranges).Fill(pod)
			if !equality.Semantic.DeepEqual(pod, was) {
				t.Fatalf("the Pod that it was made of is %+v", pod)
			}
			if r.told == "" {
				if got != pod {
					t.Errorf("it is another Pod: %+v", got)
				}
				return
			}
			for _, c := range []struct{ got, want v1.ResourceRequirements }{
				{got.Spec.Containers[0].Resources, r.app}, {got.Spec.InitContainers[0].Resources, r.init}, {got.Spec.Containers[1].Resources, pod.Spec.Containers[1].Resources},
			} {
				if !equality.Semantic.DeepEqual(c.got, c.want) {
					t.Errorf("got %+v, want %+v", c.got, c.want)
				}
			}
			if told := got.Annotations[LimitRangerAnnotation]; told != r.told {
				t.Errorf("it tells %q, want %q", told, r.told)
			}
		})
	}
}

func TestLimitsOfClaims(t *testing.T) {
	t.Parallel()
	for sentence, r := range map[string]struct{ min, max, asks, want string }{
		"between the two":     {"1Gi", "2Gi", "2Gi", ""},
		"more than there is":  {"1Gi", "2Gi", "3Gi", "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"},
		"less than there is":  {"1Gi", "2Gi", "1Mi", "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"},
		"nothing is too much": {"1Gi", "", "9Ei", ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			item := v1.LimitRangeItem{Type: v1.LimitTypePersistentVolumeClaim, Min: list("storage=" + r.min)}
			if r.max != "" {
				item.Max = list("storage=" + r.max)
			}
			claim := &v1.PersistentVolumeClaim{Spec: v1.PersistentVolumeClaimSpec{Resources: v1.VolumeResourceRequirements{Requests: list("storage=" + r.asks)}}}
			got := ""
			if err := NewLimits([]*v1.LimitRange{rangeOf("claims", item)}).CheckClaim(claim); err != nil {
				got = err.Error()
			}
			if got != r.want {
				t.Errorf("got %s, want %s", got, r.want)
			}
		})
	}
}

// TestLimitsAreKubernetesOwn has Kubernetes fill in and check the same Pods and claims.
func TestLimitsAreKubernetesOwn(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		amounts := rapid.Custom(func(t *rapid.T) v1.ResourceList {
			all := v1.ResourceList{}
			for _, name := range []string{"cpu", "memory", "hugepages-2Mi", "example.com/gpu"} {
				if rapid.Bool().Draw(t, "has") {
					text := rapid.SampledFrom([]string{"0", "1", "2", "3", "500m", "1n", "1500m", "1Gi", "8Ei"}).Draw(t, name)
					all[v1.ResourceName(name)] = list(name + "=" + text)[v1.ResourceName(name)]
				}
			}
			return all
		})
		containers := func(name string, sidecars bool) (all []v1.Container) {
			for i := range rapid.IntRange(0, 2).Draw(t, name) {
				c := limited(fmt.Sprint(name, i), "", "")
				c.Resources.Requests, c.Resources.Limits = amounts.Draw(t, "requests"), amounts.Draw(t, "limits")
				if sidecars && rapid.Bool().Draw(t, "sidecar") {
					c.RestartPolicy = ptr.To(v1.ContainerRestartPolicyAlways)
				}
				all = append(all, c)
			}
			return all
		}
		pod := &v1.Pod{Spec: v1.PodSpec{Containers: containers("app", false), InitContainers: containers("init", true), Overhead: amounts.Draw(t, "overhead")}}
		if rapid.Bool().Draw(t, "whole") {
			pod.Spec.Resources = &v1.ResourceRequirements{Requests: list("cpu=1"), Limits: list("cpu=2 memory=1Gi")}
		}
		claim := &v1.PersistentVolumeClaim{Spec: v1.PersistentVolumeClaimSpec{Resources: v1.VolumeResourceRequirements{Requests: amounts.Draw(t, "claimed")}}}
		ranges := []*v1.LimitRange{{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, {ObjectMeta: metav1.ObjectMeta{Name: "b"}}}
		for _, r := range ranges {
			for _, of := range []v1.LimitType{v1.LimitTypeContainer, v1.LimitTypePod, v1.LimitTypePersistentVolumeClaim} {
				r.Spec.Limits = append(r.Spec.Limits, v1.LimitRangeItem{
					Type: of, Min: amounts.Draw(t, "min"), Max: amounts.Draw(t, "max"), MaxLimitRequestRatio: amounts.Draw(t, "ratio"),
					Default: amounts.Draw(t, "default"), DefaultRequest: amounts.Draw(t, "defaultRequest"),
				})
			}
		}
		limits := NewLimits(ranges)
		filled := limits.Fill(pod)
		var theirs core.Pod
		if err := corev1.Convert_v1_Pod_To_core_Pod(pod.DeepCopy(), &theirs, nil); err != nil {
			t.Fatal(err)
		}
		for _, r := range ranges {
			if err := limitranger.PodMutateLimitFunc(r, &theirs); err != nil {
				t.Fatal(err)
			}
		}
		var back v1.Pod
		if err := corev1.Convert_core_Pod_To_v1_Pod(&theirs, &back, nil); err != nil {
			t.Fatal(err)
		}
		for i := range filled.Spec.Containers {
			if got, want := filled.Spec.Containers[i].Resources, back.Spec.Containers[i].Resources; !equality.Semantic.DeepEqual(got, want) {
				t.Fatalf("filled in are %+v, want %+v", got, want)
			}
		}
		for i := range filled.Spec.InitContainers {
			if got, want := filled.Spec.InitContainers[i].Resources, back.Spec.InitContainers[i].Resources; !equality.Semantic.DeepEqual(got, want) {
				t.Fatalf("filled in are %+v, want %+v", got, want)
			}
		}
		if got, want := filled.Annotations[LimitRangerAnnotation], back.Annotations[LimitRangerAnnotation]; got != want {
			t.Fatalf("it tells %q, want %q", got, want)
		}
		if got, want := wordsOf(limits.Check(filled)), firstWords(ranges, func(r *v1.LimitRange) error { return limitranger.PodValidateLimitFunc(r, &theirs) }); !slices.Equal(got, want) {
			t.Fatalf("a Pod breaks\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		var theirClaim core.PersistentVolumeClaim
		if err := corev1.Convert_v1_PersistentVolumeClaim_To_core_PersistentVolumeClaim(claim.DeepCopy(), &theirClaim, nil); err != nil {
			t.Fatal(err)
		}
		if got, want := wordsOf(limits.CheckClaim(claim)), firstWords(ranges, func(r *v1.LimitRange) error {
			return limitranger.PersistentVolumeClaimValidateLimitFunc(r, &theirClaim)
		}); !slices.Equal(got, want) {
			t.Fatalf("a claim breaks\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// firstWords are those of the first range that is broken.
func firstWords(ranges []*v1.LimitRange, broken func(*v1.LimitRange) error) []string {
	for _, r := range ranges {
		if words := wordsOf(broken(r)); len(words) > 0 {
			return words
		}
	}
	return nil
}

// wordsOf are the parts of an error, which Kubernetes has in no order.
func wordsOf(err error) (all []string) {
	var several utilerrors.Aggregate
	if errors.As(err, &several) {
		for _, e := range several.Errors() {
			all = append(all, e.Error())
		}
	}
	slices.Sort(all)
	return all
}
