package services

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

func TestAddresses(t *testing.T) {
	t.Parallel()
	web := types.NamespacedName{Namespace: "shop", Name: "web"}
	at, err := Pick(web, nil)
	if err != nil || !Range.Contains(at) || at.Less(first) || last.Less(at) {
		t.Fatalf("%v, %v", at, err)
	}
	if again, err := Pick(web, nil); again != at || err != nil {
		t.Errorf("another time %v, %v", again, err)
	}
	taken := map[netip.Addr]bool{at: true}
	if next, err := Pick(web, taken); next != at.Next() || err != nil {
		t.Errorf("beside one that is taken %v, %v", next, err)
	}
	for a := first; !last.Less(a); a = a.Next() {
		taken[a] = true
	}
	delete(taken, netip.MustParseAddr("10.96.1.0"))
	if only, err := Pick(web, taken); only != first || err != nil {
		t.Errorf("the only one is %v, %v", only, err)
	}
	taken[first] = true
	if none, err := Pick(web, taken); err == nil || !strings.Contains(err.Error(), "10.96.0.0/16") {
		t.Errorf("of none %v, %v", none, err)
	}
}

// web is a Service of the Pods of an app, with a port by number and one by name.
func web() *v1.Service {
	return &v1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "s-1", Labels: map[string]string{"team": "a"}},
		Spec: v1.ServiceSpec{Selector: map[string]string{"app": "web"}, ClusterIP: "10.96.1.1", Ports: []v1.ServicePort{
			{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}, {Name: "metrics", Port: 9000, TargetPort: intstr.FromString("metrics")},
		}},
	}
}

// pod is one of the app, at an address of its own.
func pod(number int, change func(*v1.Pod)) *v1.Pod {
	name := fmt.Sprintf("web-%d", number)
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("p-" + name), Labels: map[string]string{"app": "web", "x": "y"}}}
	p.Spec.NodeName = "n1"
	p.Spec.Containers = []v1.Container{{Name: "app", Ports: []v1.ContainerPort{{Name: "metrics", ContainerPort: 9090}}}}
	p.Status.PodIP = fmt.Sprintf("10.1.0.%d", number)
	p.Status.PodIPs = []v1.PodIP{{IP: p.Status.PodIP}, {IP: fmt.Sprintf("fd00::%d", number)}}
	p.Status.Phase = v1.PodRunning
	p.Status.Conditions = []v1.PodCondition{{Type: v1.PodReady, Status: v1.ConditionTrue}}
	if change != nil {
		change(p)
	}
	return p
}

func unready(p *v1.Pod) { p.Status.Conditions[0].Status = v1.ConditionFalse }

func ending(p *v1.Pod) { p.DeletionTimestamp = ptr.To(metav1.Now()) }

func otherPort(p *v1.Pod) { p.Spec.Containers[0].Ports[0].ContainerPort = 9091 }

func TestWhichPodsAreAService(t *testing.T) {
	t.Parallel()
	for sentence, of := range map[string]struct {
		change func(*v1.Pod)
		is     bool
	}{
		"one that it selects":      {nil, true},
		"one that is not ready":    {unready, true},
		"one that ends":            {ending, true},
		"not one of other labels":  {func(p *v1.Pod) { p.Labels["app"] = "db" }, false},
		"nor of another namespace": {func(p *v1.Pod) { p.Namespace = "back" }, false},
		"nor without an address":   {func(p *v1.Pod) { p.Status.PodIP, p.Status.PodIPs = "", nil }, false},
		"nor that is done":         {func(p *v1.Pod) { p.Status.Phase = v1.PodSucceeded }, false},
		"nor that has failed":      {func(p *v1.Pod) { p.Status.Phase = v1.PodFailed }, false},
	} {
		if got := len(Of(web(), []*v1.Pod{pod(1, of.change)})) == 1; got != of.is {
			t.Errorf("%s: %v", sentence, got)
		}
	}
	if Selects(&v1.Service{}) || !Selects(web()) {
		t.Error("without a selector Endpoints are somebody's own")
	}
}

// said are the subsets as lines: addresses, those that are not ready in brackets, and ports.
func said(e *v1.Endpoints) (lines []string) { //nolint:staticcheck // deprecated, and asked for by clients all the same
	for _, s := range e.Subsets {
		var at []string
		for _, a := range s.Addresses {
			at = append(at, a.IP)
		}
		for _, a := range s.NotReadyAddresses {
			at = append(at, "("+a.IP+")")
		}
		for _, p := range s.Ports {
			at = append(at, fmt.Sprintf("%s=%d/%s", p.Name, p.Port, p.Protocol))
		}
		lines = append(lines, strings.Join(at, " "))
	}
	return lines
}

// saidOf are slices likewise, with what is so of each endpoint.
func saidOf(all []*discovery.EndpointSlice) (lines []string) {
	for _, e := range all {
		at := []string{string(e.AddressType)}
		for _, p := range e.Endpoints {
			is := ""
			for name, so := range map[string]*bool{"r": p.Conditions.Ready, "s": p.Conditions.Serving, "t": p.Conditions.Terminating} {
				if *so {
					is += name
				}
			}
			letters := strings.Split(is, "")
			slices.Sort(letters)
			at = append(at, p.Addresses[0]+"["+strings.Join(letters, "")+"]")
		}
		for _, p := range e.Ports {
			at = append(at, fmt.Sprintf("%s=%d/%s", *p.Name, *p.Port, *p.Protocol))
		}
		lines = append(lines, strings.Join(at, " "))
	}
	return lines
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	for sentence, of := range map[string]struct {
		change       func(*v1.Service)
		pods         []*v1.Pod
		want, slices []string
	}{
		"Pods with the same ports are together": {
			nil, []*v1.Pod{pod(2, nil), pod(1, nil)},
			[]string{"10.1.0.1 10.1.0.2 http=8080/TCP metrics=9090/TCP"}, []string{"IPv4 10.1.0.1[rs] 10.1.0.2[rs] http=8080/TCP metrics=9090/TCP"},
		},
		"those that are not ready are told apart": {
			nil, []*v1.Pod{pod(1, nil), pod(2, unready)},
			[]string{"10.1.0.1 (10.1.0.2) http=8080/TCP metrics=9090/TCP"}, []string{"IPv4 10.1.0.1[rs] 10.1.0.2[] http=8080/TCP metrics=9090/TCP"},
		},
		"unless they are to be found all the same": {
			func(s *v1.Service) { s.Spec.PublishNotReadyAddresses = true }, []*v1.Pod{pod(1, unready), pod(2, ending)},
			[]string{"10.1.0.1 10.1.0.2 http=8080/TCP metrics=9090/TCP"}, []string{"IPv4 10.1.0.1[r] 10.1.0.2[rst] http=8080/TCP metrics=9090/TCP"},
		},
		"one that ends is not ready, though it serves": {
			nil, []*v1.Pod{pod(1, ending)}, nil, []string{"IPv4 10.1.0.1[st] http=8080/TCP metrics=9090/TCP"},
		},
		"a name may be another number in each Pod": {
			nil, []*v1.Pod{pod(1, nil), pod(2, otherPort)},
			[]string{"10.1.0.1 10.1.0.2 http=8080/TCP", "10.1.0.1 metrics=9090/TCP", "10.1.0.2 metrics=9091/TCP"},
			[]string{"IPv4 10.1.0.1[rs] http=8080/TCP metrics=9090/TCP", "IPv4 10.1.0.2[rs] http=8080/TCP metrics=9091/TCP"},
		},
		"a name that a Pod has not is no port of it": {
			nil, []*v1.Pod{pod(1, func(p *v1.Pod) { p.Spec.Containers[0].Ports = nil })},
			[]string{"10.1.0.1 http=8080/TCP"}, []string{"IPv4 10.1.0.1[rs] http=8080/TCP"},
		},
		"nor one of another protocol": {
			func(s *v1.Service) { s.Spec.Ports[1].Protocol = v1.ProtocolUDP }, []*v1.Pod{pod(1, nil)},
			[]string{"10.1.0.1 http=8080/TCP"}, []string{"IPv4 10.1.0.1[rs] http=8080/TCP"},
		},
		"sidecars have names, too": {
			nil, []*v1.Pod{pod(1, func(p *v1.Pod) {
				p.Spec.InitContainers = []v1.Container{{Name: "side", RestartPolicy: ptr.To(v1.ContainerRestartPolicyAlways), Ports: p.Spec.Containers[0].Ports}}
				p.Spec.Containers[0].Ports = nil
			})},
			[]string{"10.1.0.1 http=8080/TCP metrics=9090/TCP"}, []string{"IPv4 10.1.0.1[rs] http=8080/TCP metrics=9090/TCP"},
		},
		"no port at all is every port": {
			func(s *v1.Service) { s.Spec.Ports, s.Spec.ClusterIP = nil, v1.ClusterIPNone }, []*v1.Pod{pod(1, nil)}, []string{"10.1.0.1"}, []string{"IPv4 10.1.0.1[rs]"},
		},
		"of the Service's family": {
			func(s *v1.Service) { s.Spec.IPFamilies = []v1.IPFamily{v1.IPv6Protocol} }, []*v1.Pod{pod(1, nil)},
			[]string{"fd00::1 http=8080/TCP metrics=9090/TCP"}, []string{"IPv6 fd00::1[rs] http=8080/TCP metrics=9090/TCP"},
		},
		"no Pod is one slice without any": {nil, nil, nil, []string{"IPv4"}},
	} {
		s := web()
		if of.change != nil {
			of.change(s)
		}
		found := Of(s, of.pods)
		if got := said(Endpoints(s, found)); !slices.Equal(got, of.want) {
			t.Errorf("%s:\n%s\nwant\n%s", sentence, strings.Join(got, "\n"), strings.Join(of.want, "\n"))
		}
		all := EndpointSlices(s, found)
		if got := saidOf(all); !slices.Equal(got, of.slices) {
			t.Errorf("%s: slices\n%s\nwant\n%s", sentence, strings.Join(got, "\n"), strings.Join(of.slices, "\n"))
		}
		if len(all) == 2 && all[0].Name == all[1].Name {
			t.Errorf("%s: both are called %s", sentence, all[0].Name)
		}
	}
}

func TestWhatIsSaidOfEndpoints(t *testing.T) {
	t.Parallel()
	s := web()
	s.Spec.ClusterIP = v1.ClusterIPNone
	found := Of(s, []*v1.Pod{pod(1, func(p *v1.Pod) { p.Spec.Hostname, p.Spec.Subdomain = "one", "web" })})
	e, slice := Endpoints(s, found), EndpointSlices(s, found)[0]
	a := e.Subsets[0].Addresses[0]
	if e.Name != "web" || a.Hostname != "one" || *a.NodeName != "n1" || a.TargetRef.Kind != "Pod" || a.TargetRef.UID != "p-web-1" {
		t.Errorf("Endpoints %+v", e)
	}
	if fmt.Sprint(e.Labels) != "map[endpoints.kubernetes.io/managed-by:podkeeper service.kubernetes.io/headless: team:a]" {
		t.Errorf("labels of Endpoints %v", e.Labels)
	}
	if fmt.Sprint(slice.Labels) != "map[endpointslice.kubernetes.io/managed-by:podkeeper kubernetes.io/service-name:web service.kubernetes.io/headless: team:a]" {
		t.Errorf("labels of the slice %v", slice.Labels)
	}
	p := slice.Endpoints[0]
	if !strings.HasPrefix(slice.Name, "web-") || len(slice.Name) != len("web-12345") || *p.Hostname != "one" || *p.NodeName != "n1" || p.TargetRef.Name != "web-1" || slice.OwnerReferences[0].UID != "s-1" {
		t.Errorf("the slice %+v", slice)
	}
	if again := EndpointSlices(s.DeepCopy(), found)[0].Name; again != slice.Name {
		t.Errorf("another time it is called %s", again)
	}
	if len(s.Labels) != 1 {
		t.Errorf("the Service has %v now", s.Labels)
	}
}

func TestAMarkTellsOfEveryChange(t *testing.T) {
	t.Parallel()
	marks := map[string]string{}
	for sentence, change := range map[string]func(*v1.Pod){
		"as it was": nil, "not ready": unready, "ending": ending, "another one": func(p *v1.Pod) { p.UID = "other" },
		"elsewhere": func(p *v1.Pod) { p.Status.PodIPs[0].IP = "10.1.0.9" },
	} {
		mark := Mark([]*v1.Pod{pod(1, change)})
		if other, ok := marks[mark]; ok {
			t.Errorf("%s is like %s", sentence, other)
		}
		marks[mark] = sentence
	}
}
