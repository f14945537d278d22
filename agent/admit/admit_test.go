package admit

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// amounts are such as "cpu=500m memory=1Gi".
func amounts(text string) Amounts { return Of(list(text)) }

func list(text string) v1.ResourceList {
	all := v1.ResourceList{}
	for _, one := range strings.Fields(text) {
		name, q, _ := strings.Cut(one, "=")
		all[v1.ResourceName(name)] = resource.MustParse(q)
	}
	return all
}

func container(requests string) v1.Container {
	return v1.Container{Resources: v1.ResourceRequirements{Requests: list(requests)}}
}

func sidecar(requests string) v1.Container {
	c := container(requests)
	c.RestartPolicy = ptr.To(v1.ContainerRestartPolicyAlways)
	return c
}

func TestAsks(t *testing.T) {
	t.Parallel()
	for sentence, r := range map[string]struct {
		spec v1.PodSpec
		want string
	}{
		"a Pod that asks for nothing takes its place":         {v1.PodSpec{Containers: []v1.Container{container("")}}, "pods=1"},
		"main containers run together":                        {v1.PodSpec{Containers: []v1.Container{container("cpu=100m"), container("cpu=200m memory=1Mi")}}, "pods=1 cpu=300m memory=1Mi"},
		"an init container runs alone":                        {v1.PodSpec{InitContainers: []v1.Container{container("cpu=1"), container("cpu=2")}, Containers: []v1.Container{container("cpu=500m")}}, "pods=1 cpu=2"},
		"a sidecar runs beside the main containers":           {v1.PodSpec{InitContainers: []v1.Container{sidecar("cpu=1")}, Containers: []v1.Container{container("cpu=500m")}}, "pods=1 cpu=1500m"},
		"and beside init containers after it":                 {v1.PodSpec{InitContainers: []v1.Container{sidecar("cpu=1"), container("cpu=2")}, Containers: []v1.Container{container("cpu=500m")}}, "pods=1 cpu=3"},
		"but not beside those before it":                      {v1.PodSpec{InitContainers: []v1.Container{container("cpu=2"), sidecar("cpu=1")}, Containers: []v1.Container{container("cpu=500m")}}, "pods=1 cpu=2"},
		"overhead comes on top":                               {v1.PodSpec{Overhead: list("cpu=50m"), Containers: []v1.Container{container("cpu=500m")}}, "pods=1 cpu=550m"},
		"all resources count, disk and devices among them":    {v1.PodSpec{Containers: []v1.Container{container("ephemeral-storage=1Gi hugepages-2Mi=4Mi example.com/gpu=2")}}, "pods=1 ephemeral-storage=1Gi hugepages-2Mi=4Mi example.com/gpu=2"},
		"what is asked for the Pod wins over its containers'": {v1.PodSpec{Resources: &v1.ResourceRequirements{Requests: list("cpu=2")}, Containers: []v1.Container{container("cpu=500m memory=1Mi")}}, "pods=1 cpu=2 memory=1Mi"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			if got := Asks(&v1.Pod{Spec: r.spec}); !maps.Equal(got, amounts(r.want)) {
				t.Errorf("got %v, want %s", got, r.want)
			}
		})
	}
}

func TestLacks(t *testing.T) {
	t.Parallel()
	const most = "9223372036854775807"
	for sentence, r := range map[string]struct{ has, taken, asked, want string }{
		"all that there is":                   {"cpu=2 pods=1", "", "cpu=2 pods=1", ""},
		"what others leave":                   {"cpu=2", "cpu=1500m", "cpu=500m", ""},
		"more than others leave":              {"cpu=2", "cpu=1500m", "cpu=501m", "1 Insufficient cpu. Of cpu it asks for 501m, and 1500m of 2 are taken"},
		"nothing, where others have too much": {"cpu=2 memory=1Gi", "cpu=3", "memory=1Gi", ""},
		"several, as the scheduler sorts them": {"cpu=1 memory=1Gi pods=2", "pods=2 memory=1Mi", "cpu=2 memory=1Gi pods=1",
			"1 Insufficient cpu, 1 Insufficient memory, 1 Too many pods. Of cpu it asks for 2, and 0 of 1 are taken; of memory it asks for 1Gi, and 1Mi of 1Gi are taken; of pods it asks for 1, and 2 of 2 are taken"},
		"disk":                           {"ephemeral-storage=1Gi", "", "ephemeral-storage=2Gi", "1 Insufficient ephemeral-storage. Of ephemeral-storage it asks for 2Gi, and 0 of 1Gi are taken"},
		"a device that the node lacks":   {"cpu=1", "", "example.com/gpu=2", "1 Insufficient example.com/gpu. Of example.com/gpu it asks for 2, and 0 of 0 are taken"},
		"huge pages of another size":     {"hugepages-2Mi=8Mi", "", "hugepages-1Gi=1Gi", "1 Insufficient hugepages-1Gi. Of hugepages-1Gi it asks for 1Gi, and 0 of 0 are taken"},
		"more than can be counted is no": {"memory=1Gi", "memory=" + most, "memory=" + most, "1 Insufficient memory. Of memory it asks for " + most + ", and " + most + " of 1Gi are taken"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			if got := Lacks(amounts(r.has), amounts(r.taken), amounts(r.asked)); got != r.want {
				t.Errorf("got %q, want %q", got, r.want)
			}
		})
	}
	if got := Lacks(nil, nil, amounts("cpu=2")); got != "" {
		t.Errorf("a node of which nothing is known: %s", got)
	}
	sum := amounts("memory=" + most)
	if sum.Add(sum); !maps.Equal(sum, amounts("memory="+most)) {
		t.Errorf("a sum that is too much is %v", sum)
	}
}

func TestRound(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	pod := func(name string, priority int32, age time.Duration, cpu string) Candidate {
		return NewCandidate(&v1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       v1.PodSpec{Priority: &priority, Containers: []v1.Container{container("cpu=" + cpu)}},
		}, begin.Add(-age))
	}
	for sentence, r := range map[string]struct {
		pods []Candidate
		want string // who may begin
	}{
		"all have room":                               {[]Candidate{pod("a", 0, 0, "1"), pod("b", 0, 0, "1")}, "a b"},
		"the higher priority goes first":              {[]Candidate{pod("a", 0, time.Hour, "2"), pod("b", 1, 0, "2")}, "b"},
		"of one priority the older one goes first":    {[]Candidate{pod("a", 0, 0, "2"), pod("b", 0, time.Hour, "2")}, "b"},
		"of one age it is the name":                   {[]Candidate{pod("b", 0, 0, "2"), pod("a", 0, 0, "2")}, "a"},
		"who does not fit keeps nobody back":          {[]Candidate{pod("a", 9, 0, "4"), pod("b", 0, 0, "2")}, "b"},
		"what is left is for whom it is enough":       {[]Candidate{pod("a", 9, 0, "1500m"), pod("b", 5, 0, "1"), pod("c", 0, 0, "500m")}, "a c"},
		"who asks for nothing begins on a full node":  {[]Candidate{pod("a", 9, 0, "2"), pod("b", 0, 0, "0")}, "a b"},
		"but not where there are too many Pods on it": {[]Candidate{pod("a", 9, 0, "0"), pod("b", 8, 0, "0"), pod("c", 0, 0, "0")}, "a b"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			var got []string
			for name, refused := range Round(amounts("cpu=3 pods=3"), amounts("cpu=1 pods=1"), nil, r.pods) {
				if refused.Why == "" {
					got = append(got, name.Name)
				}
			}
			slices.Sort(got)
			if strings.Join(got, " ") != r.want {
				t.Errorf("%v begin, want %s", got, r.want)
			}
		})
	}
}

func TestVictims(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	pod := func(name string, priority int32, age time.Duration, asks string) Candidate {
		all := amounts(asks)
		all[v1.ResourcePods] = 1
		return Candidate{Name: types.NamespacedName{Name: name}, Priority: priority, Since: begin.Add(-age), Asks: all}
	}
	for sentence, r := range map[string]struct {
		asks, beside string
		there        []Candidate
		leaving      string
		want         string // who has to go; "no" where it is no use
	}{
		"one of lower priority":                     {"cpu=1", "", []Candidate{pod("a", 1, 0, "cpu=2"), pod("b", 9, 0, "cpu=2")}, "", "a"},
		"none of its own or of higher priority":     {"cpu=1", "", []Candidate{pod("a", 5, 0, "cpu=2"), pod("b", 9, 0, "cpu=2")}, "", "no"},
		"the lowest":                                {"cpu=1", "", []Candidate{pod("a", 2, 0, "cpu=2"), pod("b", 1, 0, "cpu=2")}, "", "b"},
		"of one priority the youngest":              {"cpu=1", "", []Candidate{pod("a", 1, 0, "cpu=2"), pod("b", 1, time.Hour, "cpu=2")}, "", "a"},
		"no more than that takes":                   {"cpu=2", "", []Candidate{pod("a", 1, 0, "cpu=1"), pod("b", 1, 1, "cpu=1"), pod("c", 2, 2, "cpu=2")}, "", "a b"},
		"nobody who asks for nothing that it needs": {"cpu=1", "", []Candidate{pod("a", 1, 0, "memory=1Gi"), pod("b", 2, 0, "cpu=4")}, "", "b"},
		"for a place of one Pod any":                {"", "", []Candidate{pod("a", 1, 0, ""), pod("b", 2, 0, ""), pod("c", 1, 1, "")}, "", "a"},
		"nobody while enough leave already":         {"cpu=1", "", []Candidate{pod("a", 1, 0, "cpu=2"), pod("b", 1, 0, "cpu=2")}, "b", ""},
		"somebody while too little leave":           {"cpu=3", "", []Candidate{pod("a", 1, 0, "cpu=2"), pod("b", 1, 0, "cpu=2")}, "b", "a"},
		"what leaves for another is not for it":     {"cpu=2", "cpu=2", []Candidate{pod("a", 1, 0, "cpu=2"), pod("b", 1, 0, "cpu=2")}, "b", "a"},
		"more than the node has is no use":          {"cpu=5", "", []Candidate{pod("a", 1, 0, "cpu=4")}, "", "no"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			leaving := map[types.NamespacedName]bool{}
			for _, name := range strings.Fields(r.leaving) {
				leaving[types.NamespacedName{Name: name}] = true
			}
			victims, ok := Victims(amounts("cpu=4 memory=1Gi pods=3"), pod("new", 5, 0, r.asks), r.there, leaving, amounts(r.beside))
			var names []string
			for _, name := range victims {
				names = append(names, name.Name)
			}
			slices.Sort(names)
			got := strings.Join(names, " ")
			if !ok {
				got = "no"
			}
			if got != r.want {
				t.Errorf("%q go, want %q", got, r.want)
			}
		})
	}
}

func TestAllocatable(t *testing.T) {
	t.Parallel()
	const has = "cpu=4 memory=4Gi ephemeral-storage=100Gi pods=110"
	for sentence, r := range map[string]struct {
		has, system, kube, memory, disk string
		want                            string
	}{
		"nothing is reserved":                         {has, "", "", "", "", has},
		"reserved for both":                           {has, "cpu=500m memory=1Gi", "cpu=500m memory=1Gi", "", "", "cpu=3 memory=2Gi ephemeral-storage=100Gi pods=110"},
		"what is to be free":                          {has, "memory=1Gi", "", "512Mi", "10%", "cpu=4 memory=2560Mi ephemeral-storage=90Gi pods=110"},
		"0% and 100% are none":                        {has, "", "", "0%", "100%", has},
		"more than there is":                          {"memory=1Gi", "memory=1Gi", "memory=1Gi", "", "", "memory=0"},
		"memory in huge pages":                        {"memory=4Gi hugepages-2Mi=1Gi hugepages-1Gi=1Gi", "", "", "", "", "memory=2Gi hugepages-2Mi=1Gi hugepages-1Gi=1Gi"},
		"more huge pages than memory":                 {"memory=1Gi hugepages-1Gi=2Gi", "", "", "", "", "memory=0 hugepages-1Gi=2Gi"},
		"what the node has nothing of stays away":     {"cpu=1", "memory=1Gi", "", "1Gi", "", "cpu=1"},
		"a part of what the node has nothing of also": {"cpu=1", "", "", "", "5%", "cpu=1"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			reserve := Reserve{System: list(r.system), Kube: list(r.kube)}
			for name, text := range map[v1.ResourceName]string{v1.ResourceMemory: r.memory, v1.ResourceEphemeralStorage: r.disk} {
				if text == "" {
					continue
				}
				free, err := ParseShare(text)
				if err != nil {
					t.Fatal(err)
				}
				reserve.Keep(name, free)
			}
			capacity := list(r.has)
			got, want := reserve.Allocatable(capacity), list(r.want)
			for name, q := range want {
				if left := got[name]; left.Cmp(q) != 0 || len(got) != len(want) {
					t.Errorf("of %s there is %s, want %s", name, &left, &q)
				}
			}
			for name, q := range list(r.has) {
				if after := capacity[name]; after.Cmp(q) != 0 {
					t.Errorf("the capacity of %s was changed to %s", name, &after)
				}
			}
		})
	}
	for _, wrong := range []string{"", "10", "-1Mi", "101%", "-1%", "%", "NaN%", "many"} {
		if _, err := ParseShare(wrong); (err == nil) != (wrong == "10") {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}

// BenchmarkRound has 500 Pods be wanted of which one half has room.
func BenchmarkRound(b *testing.B) {
	var pods []*v1.Pod
	for i := range 500 {
		pods = append(pods, &v1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("pod-%d", i)},
			Spec:       v1.PodSpec{Priority: ptr.To(int32(i % 7)), Containers: []v1.Container{container("cpu=100m memory=64Mi"), container("cpu=10m memory=8Mi")}},
		})
	}
	has := amounts("cpu=27500m memory=1Ti pods=1000")
	b.ReportAllocs()
	for b.Loop() {
		var candidates []Candidate
		for _, pod := range pods {
			candidates = append(candidates, NewCandidate(pod, time.Time{}))
		}
		if why := Round(has, Amounts{}, nil, candidates); len(why) != 500 {
			b.Fatal(len(why))
		}
	}
}
