package metrics

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/metrics/pkg/apis/metrics/v1beta1"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/kubeapi/mirror"
	"github.com/podkeeper/podkeeper/kubeapi/storage"
	"github.com/podkeeper/podkeeper/server"
)

var at = metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))

func pod(namespace, name string, phase v1.PodPhase) *v1.Pod {
	return &v1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{"app": name}},
		Status:     v1.PodStatus{Phase: phase},
	}
}

// container uses so many thousandths of a CPU, which are not known where there are none, and MiB.
func container(name string, cpu, memory uint64, since time.Duration) stats.ContainerStats {
	c := stats.ContainerStats{
		Name: name, CPU: &stats.CPUStats{Time: metav1.NewTime(at.Add(since))}, Memory: &stats.MemoryStats{WorkingSetBytes: ptr.To(memory << 20)},
	}
	if cpu > 0 {
		c.CPU.UsageNanoCores = ptr.To(cpu * 1e6)
	}
	return c
}

// summary is of Pods that run, one that is not known wholly, one that does not run yet, and one that the mirror has another of.
func summary() *server.Summary {
	s := &server.Summary{Window: metav1.Duration{Duration: 15 * time.Second}}
	node := container("", 1500, 2048, 0)
	s.Node = stats.NodeStats{NodeName: "here", CPU: node.CPU, Memory: node.Memory, Swap: &stats.SwapStats{SwapUsageBytes: ptr.To[uint64](4096)}}
	for name, containers := range map[string][]stats.ContainerStats{
		"web": {container("app", 250, 64, time.Second), container("side", 10, 1, 0)}, "db": {container("db", 5, 100, 0)},
		"fresh": {container("app", 5, 1, 0), container("new", 0, 1, 0)}, "begins": {container("init", 5, 1, 0)}, "gone": {container("app", 5, 1, 0)},
	} {
		s.Pods = append(s.Pods, stats.PodStats{PodRef: stats.PodReference{Name: name, UID: "uid-" + name}, Containers: containers})
	}
	return s
}

func begin(t *testing.T, usage Usage) map[string]rest.Storage {
	t.Helper()
	m := mirror.New(storage.Decode)
	another := pod("shop", "gone", v1.PodRunning)
	another.UID = "another"
	node := &v1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: "here", Labels: map[string]string{"disk": "fast"}}}
	elsewhere := node.DeepCopy()
	elsewhere.Name = "elsewhere"
	for i, o := range []runtime.Object{
		pod("shop", "web", v1.PodRunning), pod("shop", "fresh", v1.PodRunning), pod("shop", "begins", v1.PodPending), pod("shop", "idle", v1.PodRunning),
		another, pod("default", "db", v1.PodRunning), node, elsewhere,
	} {
		body, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		resource := strings.ToLower(o.GetObjectKind().GroupVersionKind().Kind) + "s"
		if err := m.Take(server.Change{Type: server.Added, Resource: resource, Object: body, Revision: uint64(i + 1)}); err != nil {
			t.Fatal(err)
		}
	}
	return Storages(m, usage, rest.NewDefaultTableConvertor)
}

func known(context.Context) (*server.Summary, error) { return summary(), nil }

// shown is what of metrics counts.
func shown(o runtime.Object) string {
	use := func(r v1.ResourceList) string {
		text := r.Cpu().String() + " " + r.Memory().String()
		if swap, ok := r["swap"]; ok {
			text += " " + swap.String()
		}
		return text
	}
	switch o := o.(type) {
	case *v1beta1.PodMetrics:
		text := fmt.Sprintf("%s/%s %v in %v at %s:", o.Namespace, o.Name, o.Labels, o.Window.Duration, o.Timestamp.UTC().Format("05"))
		for _, c := range o.Containers {
			text += " " + c.Name + " " + use(c.Usage)
		}
		return text
	case *v1beta1.NodeMetrics:
		return fmt.Sprintf("%s %v in %v at %s: %s", o.Name, o.Labels, o.Window.Duration, o.Timestamp.UTC().Format("05"), use(o.Usage))
	case *v1beta1.PodMetricsList:
		var all []string
		for i := range o.Items {
			all = append(all, shown(&o.Items[i]))
		}
		return strings.Join(all, "\n")
	case *v1beta1.NodeMetricsList:
		var all []string
		for i := range o.Items {
			all = append(all, shown(&o.Items[i]))
		}
		return strings.Join(all, "\n")
	}
	return fmt.Sprintf("%T", o)
}

const (
	web  = "shop/web map[app:web] in 15s at 05: app 250m 64Mi side 10m 1Mi"
	db   = "default/db map[app:db] in 15s at 05: db 5m 100Mi"
	here = "here map[disk:fast] in 15s at 05: 1500m 2Gi 4Ki"
)

func TestGet(t *testing.T) {
	storages := begin(t, known)
	for what, c := range map[string]struct{ resource, name, want string }{
		"a Pod that runs":             {"pods", "web", web},
		"a Pod that is new in part":   {"pods", "fresh", `podmetrics.metrics.k8s.io "shop/fresh" not found`},
		"a Pod that does not run yet": {"pods", "begins", `podmetrics.metrics.k8s.io "shop/begins" not found`},
		"a Pod with nothing running":  {"pods", "idle", `podmetrics.metrics.k8s.io "shop/idle" not found`},
		"a Pod that is another one":   {"pods", "gone", `podmetrics.metrics.k8s.io "shop/gone" not found`},
		"no Pod":                      {"pods", "none", `podmetrics.metrics.k8s.io "shop/none" not found`},
		"one of another namespace":    {"pods", "db", `podmetrics.metrics.k8s.io "shop/db" not found`},
		"the node":                    {"nodes", "here", here},
		"another node":                {"nodes", "elsewhere", `nodemetrics.metrics.k8s.io "elsewhere" not found`},
	} {
		ctx := context.Background()
		if c.resource == "pods" {
			ctx = request.WithNamespace(ctx, "shop")
		}
		o, err := storages[c.resource].(rest.Getter).Get(ctx, c.name, nil)
		if err != nil && !errors.IsNotFound(err) {
			t.Errorf("%s: %v", what, err)
		}
		got := shown(o)
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", what, got, c.want)
		}
	}
}

func TestList(t *testing.T) {
	storages := begin(t, known)
	for what, c := range map[string]struct {
		resource, namespace string
		options             *internalversion.ListOptions
		want                string
	}{
		"all":             {"pods", "", nil, db + "\n" + web},
		"of a namespace":  {"pods", "shop", &internalversion.ListOptions{}, web},
		"by label":        {"pods", "", &internalversion.ListOptions{LabelSelector: labels.SelectorFromSet(labels.Set{"app": "db"})}, db},
		"by name":         {"pods", "", &internalversion.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", "web")}, web},
		"by namespace":    {"pods", "", &internalversion.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.namespace", "default")}, db},
		"of nobody":       {"pods", "none", nil, ""},
		"of nodes":        {"nodes", "", nil, here},
		"of no such node": {"nodes", "", &internalversion.ListOptions{LabelSelector: labels.SelectorFromSet(labels.Set{"disk": "slow"})}, ""},
	} {
		o, err := storages[c.resource].(rest.Lister).List(request.WithNamespace(context.Background(), c.namespace), c.options)
		if err != nil || shown(o) != c.want {
			t.Errorf("%s: %s, %v, want %s", what, shown(o), err, c.want)
		}
	}
}

func TestAnAgentThatIsAway(t *testing.T) {
	storages := begin(t, func(context.Context) (*server.Summary, error) { return nil, fmt.Errorf("no agent is running") })
	ctx := request.WithNamespace(context.Background(), "shop")
	if _, err := storages["pods"].(rest.Getter).Get(ctx, "web", nil); !errors.IsServiceUnavailable(err) {
		t.Errorf("a Pod: %v", err)
	}
	if _, err := storages["nodes"].(rest.Lister).List(ctx, nil); !errors.IsServiceUnavailable(err) {
		t.Errorf("nodes: %v", err)
	}
	if o, err := storages["pods"].(rest.Lister).List(request.WithNamespace(ctx, "none"), nil); err != nil || shown(o) != "" {
		t.Errorf("nothing that it would have to be asked about: %v", err)
	}
}

func TestTheyCanOnlyBeRead(t *testing.T) {
	for name, s := range begin(t, known) {
		_, creates := s.(rest.Creater)
		_, updates := s.(rest.Updater)
		_, deletes := s.(rest.GracefulDeleter)
		_, watches := s.(rest.Watcher)
		if creates || updates || deletes || watches {
			t.Errorf("%s can be changed or watched", name)
		}
		if _, _, err := storage.Scheme.ObjectKinds(s.New()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if gv := (schema.GroupVersion{Group: "metrics.k8s.io", Version: "v1beta1"}); !storage.Scheme.IsVersionRegistered(gv) {
		t.Errorf("%s is not known", gv)
	}
}
