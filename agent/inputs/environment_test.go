package inputs

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func field(path string) *v1.EnvVarSource {
	return &v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: "web", UID: "u-1", Labels: map[string]string{"app": "web"}, Annotations: map[string]string{"note": "a b"},
	}}
	pod.Spec.ServiceAccountName = "builder"
	pod.Spec.Containers = []v1.Container{
		{Name: "app", Resources: v1.ResourceRequirements{
			Limits:   v1.ResourceList{v1.ResourceMemory: resource.MustParse("100Mi"), "hugepages-2Mi": resource.MustParse("6Mi")},
			Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse("250m"), "hugepages-2Mi": resource.MustParse("6Mi")},
		}},
		{Name: "other", Resources: v1.ResourceRequirements{Limits: v1.ResourceList{v1.ResourceCPU: resource.MustParse("1500m")}}},
	}
	of := func(container, name, divisor string) *v1.EnvVarSource {
		ref := &v1.ResourceFieldSelector{ContainerName: container, Resource: name}
		if divisor != "" {
			ref.Divisor = resource.MustParse(divisor)
		}
		return &v1.EnvVarSource{ResourceFieldRef: ref}
	}
	for sentence, r := range map[string]struct {
		env  []v1.EnvVar
		want []string
	}{
		"order is kept":                           {[]v1.EnvVar{{Name: "B", Value: "1"}, {Name: "A", Value: "2"}}, []string{"B=1", "A=2"}},
		"$(VAR) is what was declared before":      {[]v1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "$(A)-$(A)"}}, []string{"A=1", "B=1-1"}},
		"not what is declared after":              {[]v1.EnvVar{{Name: "B", Value: "$(A)"}, {Name: "A", Value: "1"}}, []string{"B=$(A)", "A=1"}},
		"an unknown one stays":                    {[]v1.EnvVar{{Name: "B", Value: "$(NONE)"}}, []string{"B=$(NONE)"}},
		"$$(VAR) is $(VAR)":                       {[]v1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "$$(A)"}}, []string{"A=1", "B=$(A)"}},
		"$VAR and ${VAR} are left to a shell":     {[]v1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "$A ${A}"}}, []string{"A=1", "B=$A ${A}"}},
		"nothing is replaced twice":               {[]v1.EnvVar{{Name: "A", Value: "$$(X)"}, {Name: "X", Value: "1"}, {Name: "B", Value: "$(A)"}}, []string{"A=$(X)", "X=1", "B=$(X)"}},
		"the Pod's own facts":                     {[]v1.EnvVar{{Name: "N", ValueFrom: field("metadata.name")}, {Name: "S", ValueFrom: field("metadata.namespace")}, {Name: "U", ValueFrom: field("metadata.uid")}}, []string{"N=web", "S=shop", "U=u-1"}},
		"one label and one annotation":            {[]v1.EnvVar{{Name: "L", ValueFrom: field("metadata.labels['app']")}, {Name: "A", ValueFrom: field("metadata.annotations['note']")}}, []string{"L=web", "A=a b"}},
		"where it runs":                           {[]v1.EnvVar{{Name: "N", ValueFrom: field("spec.nodeName")}, {Name: "S", ValueFrom: field("spec.serviceAccountName")}}, []string{"N=node-1", "S=builder"}},
		"its addresses":                           {[]v1.EnvVar{{Name: "I", ValueFrom: field("status.podIP")}, {Name: "J", ValueFrom: field("status.podIPs")}}, []string{"I=10.88.0.2", "J=10.88.0.2,fd00::2"}},
		"the node's addresses":                    {[]v1.EnvVar{{Name: "I", ValueFrom: field("status.hostIP")}, {Name: "J", ValueFrom: field("status.hostIPs")}}, []string{"I=192.0.2.1", "J=192.0.2.1,2001:db8::1"}},
		"a limit":                                 {[]v1.EnvVar{{Name: "M", ValueFrom: of("", "limits.memory", "")}, {Name: "MM", ValueFrom: of("", "limits.memory", "1Mi")}}, []string{"M=104857600", "MM=100"}},
		"another container's, rounded up":         {[]v1.EnvVar{{Name: "C", ValueFrom: of("other", "limits.cpu", "")}}, []string{"C=2"}},
		"a request with a divisor":                {[]v1.EnvVar{{Name: "C", ValueFrom: of("", "requests.cpu", "1m")}}, []string{"C=250"}},
		"huge pages":                              {[]v1.EnvVar{{Name: "L", ValueFrom: of("", "limits.hugepages-2Mi", "")}, {Name: "R", ValueFrom: of("", "requests.hugepages-2Mi", "1Mi")}}, []string{"L=6291456", "R=6"}},
		"huge pages that are not asked for":       {[]v1.EnvVar{{Name: "L", ValueFrom: of("other", "limits.hugepages-2Mi", "")}}, []string{"L=0"}},
		"no limit is what the node has":           {[]v1.EnvVar{{Name: "M", ValueFrom: of("other", "limits.memory", "1Gi")}}, []string{"M=8"}},
		"what comes from elsewhere may be quoted": {[]v1.EnvVar{{Name: "N", ValueFrom: field("metadata.name")}, {Name: "U", Value: "http://$(N)/"}}, []string{"N=web", "U=http://web/"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			c := pod.Spec.Containers[0].DeepCopy()
			c.Env = r.env
			got, lookup, err := Environment(Facts{
				Pod: pod, Container: c, NodeName: "node-1", PodIPs: []string{"10.88.0.2", "fd00::2"}, HostIPs: []string{"192.0.2.1", "2001:db8::1"},
				Capacity: v1.ResourceList{v1.ResourceMemory: resource.MustParse("8Gi")},
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(r.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if value, ok := lookup(r.env[0].Name); !ok || r.want[0] != r.env[0].Name+"="+value {
				t.Errorf("command and arguments see %q", value)
			}
		})
	}
}

func TestEnvironmentThatCannotBe(t *testing.T) {
	t.Parallel()
	pod := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "app"}}}}
	for sentence, from := range map[string]*v1.EnvVarSource{
		"a container that is not there": {ResourceFieldRef: &v1.ResourceFieldSelector{ContainerName: "none", Resource: "limits.cpu"}},
		"a field that is not there":     field("spec.none"),
		"no source":                     {},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			c := v1.Container{Name: "app", Env: []v1.EnvVar{{Name: "A", ValueFrom: from}}}
			if _, _, err := Environment(Facts{Pod: pod, Container: &c}); err == nil || !strings.HasPrefix(err.Error(), "env A: ") {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestProbeCommandSeesTheManifestOnly(t *testing.T) {
	t.Parallel()
	c := &v1.Container{Env: []v1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "$(A)2"}, {Name: "N", ValueFrom: field("metadata.name")}}}
	got := Static(c, []string{"$(A)", "$(B)", "$(N)", "$(NONE)", "$$(A)"})
	if diff := cmp.Diff([]string{"1", "12", "$(N)", "$(NONE)", "$(A)"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestServicesInTheEnvironment(t *testing.T) {
	t.Parallel()
	service := func(namespace, name, at string, ports ...v1.ServicePort) *v1.Service {
		return &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: v1.ServiceSpec{ClusterIP: at, Ports: ports}}
	}
	all := []*v1.Service{
		service("shop", "web-app", "10.96.1.2", v1.ServicePort{Name: "http", Port: 80}, v1.ServicePort{Name: "dns-udp", Port: 53, Protocol: v1.ProtocolUDP}),
		service("shop", "db", "fd00::1", v1.ServicePort{Port: 5432}), service("shop", "headless", v1.ClusterIPNone, v1.ServicePort{Port: 1}),
		service("shop", "elsewhere", ""), service("back", "other", "10.96.1.3", v1.ServicePort{Port: 80}),
		service("default", "kubernetes", "10.96.0.1", v1.ServicePort{Name: "https", Port: 443}),
	}
	of := func(pod v1.PodSpec, env ...v1.EnvVar) []string {
		t.Helper()
		got, _, err := Environment(Facts{Pod: &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}, Spec: pod}, Container: &v1.Container{Env: env}, Services: all})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	api := []string{
		"KUBERNETES_SERVICE_HOST=10.96.0.1", "KUBERNETES_SERVICE_PORT=443", "KUBERNETES_SERVICE_PORT_HTTPS=443", "KUBERNETES_PORT=tcp://10.96.0.1:443",
		"KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443", "KUBERNETES_PORT_443_TCP_PROTO=tcp", "KUBERNETES_PORT_443_TCP_PORT=443", "KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1",
	}
	db := []string{
		"DB_SERVICE_HOST=fd00::1", "DB_SERVICE_PORT=5432", "DB_PORT=tcp://[fd00::1]:5432", "DB_PORT_5432_TCP=tcp://[fd00::1]:5432", "DB_PORT_5432_TCP_PROTO=tcp",
		"DB_PORT_5432_TCP_PORT=5432", "DB_PORT_5432_TCP_ADDR=fd00::1",
	}
	app := []string{
		"WEB_APP_SERVICE_HOST=10.96.1.2", "WEB_APP_SERVICE_PORT=80", "WEB_APP_SERVICE_PORT_HTTP=80", "WEB_APP_SERVICE_PORT_DNS_UDP=53", "WEB_APP_PORT=tcp://10.96.1.2:80",
		"WEB_APP_PORT_80_TCP=tcp://10.96.1.2:80", "WEB_APP_PORT_80_TCP_PROTO=tcp", "WEB_APP_PORT_80_TCP_PORT=80", "WEB_APP_PORT_80_TCP_ADDR=10.96.1.2",
		"WEB_APP_PORT_53_UDP=udp://10.96.1.2:53", "WEB_APP_PORT_53_UDP_PROTO=udp", "WEB_APP_PORT_53_UDP_PORT=53", "WEB_APP_PORT_53_UDP_ADDR=10.96.1.2",
	}
	for sentence, c := range map[string]struct{ got, want []string }{
		"those of the namespace, and the API":         {of(v1.PodSpec{}), slices.Concat(db, api, app)},
		"but the API where a Pod wants none":          {of(v1.PodSpec{EnableServiceLinks: ptr.To(false)}), api},
		"what a container has of its own goes before": {of(v1.PodSpec{EnableServiceLinks: ptr.To(false)}, v1.EnvVar{Name: "KUBERNETES_SERVICE_HOST", Value: "me"}), slices.Concat([]string{"KUBERNETES_SERVICE_HOST=me"}, api[1:])},
		"and may be made of them":                     {of(v1.PodSpec{EnableServiceLinks: ptr.To(false)}, v1.EnvVar{Name: "URL", Value: "$(KUBERNETES_PORT)/x"}), slices.Concat(api, []string{"URL=tcp://10.96.0.1:443/x"})},
	} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Errorf("%s:\n%s", sentence, diff)
		}
	}
}
