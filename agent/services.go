package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/google/uuid"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/agent/objects"
	"github.com/podkeeper/podkeeper/agent/services"
	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/server"
)

// serviceResource is what Services are called in paths.
const serviceResource = "services"

// addresses are those that Services of the manifest directory have been given: there is no other place that has them over a restart.
type addresses struct {
	mu    sync.Mutex
	read  bool
	given map[string]string // by namespace/name
}

// addressesFile is beside the objects of the API, each of which has its address in itself.
func (a *Agent) addressesFile() string { return filepath.Join(a.cfg.ObjectsDir, "addresses.json") }

// address gives addresses to the Services of the manifest directory that have none. They stay theirs until they are removed there.
func (a *Agent) address(set manifests.Set) manifests.Set {
	a.addresses.mu.Lock()
	defer a.addresses.mu.Unlock()
	a.readAddresses()
	var without []int // in set.Objects
	var asked []string
	for i, o := range set.Objects {
		if s, ok := o.Object.(*v1.Service); ok && manifests.NeedsAddress(s) {
			if asked = append(asked, s.Spec.ClusterIP); s.Spec.ClusterIP == "" {
				without = append(without, i)
			}
		}
	}
	if len(without)+len(a.addresses.given) == 0 {
		return set
	}
	taken := a.takenByAPI(objects.ID{})
	for _, at := range asked {
		take(taken, at)
	}
	set.Objects = slices.Clone(set.Objects)
	now := a.keptAddresses(set, without, taken)
	for _, i := range without {
		s := set.Objects[i].Object.(*v1.Service).DeepCopy()
		name := set.Objects[i].Key().NamespacedName
		if now[name.String()] == "" {
			at, err := services.Pick(name, taken)
			if err != nil {
				a.log.Error("a Service gets no address", "service", name.String(), "error", err)
				continue
			}
			now[name.String()] = at.String()
			taken[at] = true
		}
		setAddress(s, now[name.String()])
		set.Objects[i].Object = s
	}
	a.keepAddresses(now)
	return set
}

// keptAddresses are those that were given before and are free: they come before those of Services that are new.
func (a *Agent) keptAddresses(set manifests.Set, without []int, taken map[netip.Addr]bool) map[string]string {
	kept := map[string]string{}
	if set.Err != nil {
		maps.Copy(kept, a.addresses.given) // a directory that cannot be read is not an empty one
	}
	for _, i := range without {
		name := set.Objects[i].Key().NamespacedName.String()
		if was := a.addresses.given[name]; was != "" && take(taken, was) {
			kept[name] = was
		}
	}
	return kept
}

// take says whether an address was free.
func take(taken map[netip.Addr]bool, text string) bool {
	at, err := netip.ParseAddr(text)
	free := err == nil && !taken[at]
	if free {
		taken[at] = true
	}
	return free
}

func setAddress(s *v1.Service, at string) {
	s.Spec.ClusterIP, s.Spec.ClusterIPs = at, []string{at}
	if len(s.Spec.IPFamilies) == 0 {
		s.Spec.IPFamilies = []v1.IPFamily{v1.IPv4Protocol}
	}
	if s.Spec.IPFamilyPolicy == nil {
		s.Spec.IPFamilyPolicy = ptr.To(v1.IPFamilyPolicySingleStack)
	}
}

// readAddresses reads, once, what an earlier agent has given.
func (a *Agent) readAddresses() {
	if a.addresses.read {
		return
	}
	a.addresses.read = true
	content, err := os.ReadFile(a.addressesFile())
	if err == nil {
		err = json.Unmarshal(content, &a.addresses.given)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.log.Error("Services get other addresses", "error", fmt.Errorf("read addresses of Services: %w", err))
	}
}

// keepAddresses writes down what is given now, if it is anything else.
func (a *Agent) keepAddresses(now map[string]string) {
	if maps.Equal(now, a.addresses.given) {
		return
	}
	a.addresses.given = now
	content, err := json.MarshalIndent(now, "", "  ")
	if err == nil {
		err = node.WriteDurably(a.addressesFile(), content)
	}
	if err != nil {
		a.log.Error("the next agent may give Services other addresses", "error", fmt.Errorf("write addresses of Services: %w", err))
	}
}

// takenByAPI are the addresses of Services that are made through the API, but one.
func (a *Agent) takenByAPI(but objects.ID) map[netip.Addr]bool {
	taken := map[netip.Addr]bool{}
	for _, o := range a.objects.List() {
		if o.Resource == serviceResource && o.ID != but {
			take(taken, typedService(o.Content).Spec.ClusterIP)
		}
	}
	return taken
}

// typedService is a Service of which the store knows that it is one, or is told what is wrong with it.
func typedService(fields map[string]any) *v1.Service {
	s := &v1.Service{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(fields, s); err != nil {
		return &v1.Service{}
	}
	return s
}

// addressed is a Service that is made or edited through the API, in JSON, with its address: the one it had, the one it asks for if
// that is free, or a new one.
func (a *Agent) addressed(id objects.ID, body []byte) ([]byte, error) {
	var fields map[string]any
	if id.Resource != serviceResource || utiljson.Unmarshal(body, &fields) != nil {
		return body, nil // what is no object is the store's to say
	}
	s := typedService(fields)
	was, err := a.objects.Get(id)
	if err == nil {
		manifests.KeepAddress(s, typedService(was.Content))
	}
	if err != nil || typedService(was.Content).Spec.ClusterIP != s.Spec.ClusterIP || s.Spec.ClusterIP == "" {
		if err := a.giveAddress(id, s); err != nil {
			return nil, err
		}
	}
	spec := child(fields, "spec")
	for name, value := range map[string]any{
		"clusterIP": s.Spec.ClusterIP, "clusterIPs": s.Spec.ClusterIPs, "ipFamilies": s.Spec.IPFamilies, "ipFamilyPolicy": ptr.Deref(s.Spec.IPFamilyPolicy, ""),
	} {
		if spec[name] = value; value == "" || s.Spec.ClusterIP == "" {
			delete(spec, name)
		}
	}
	return json.Marshal(fields)
}

// giveAddress gives a Service that one that it asks for, or any.
func (a *Agent) giveAddress(id objects.ID, s *v1.Service) error {
	if !manifests.NeedsAddress(s) {
		return nil
	}
	if s.Spec.ClusterIP == v1.ClusterIPNone {
		setAddress(s, v1.ClusterIPNone)
		return nil
	}
	taken := a.taken(id)
	if s.Spec.ClusterIP == "" {
		at, err := services.Pick(id.NamespacedName, taken)
		if err != nil {
			return err
		}
		setAddress(s, at.String())
		return nil
	}
	asked, err := netip.ParseAddr(s.Spec.ClusterIP)
	why := ""
	switch {
	case err != nil:
		return nil // the store says so
	case !services.Range.Contains(asked):
		why = fmt.Sprintf("the provided IP (%s) is not in the valid range. The range of valid IPs is %s", asked, services.Range)
	case taken[asked]:
		why = "provided IP is already allocated"
	default:
		setAddress(s, s.Spec.ClusterIP)
		return nil
	}
	return server.As(server.ErrInvalid, fmt.Sprintf("Service %q is invalid: spec.clusterIPs: Invalid value: [%q]: failed to allocate IP %s: %s", id.Name, asked, asked, why))
}

// taken are the addresses of all Services but one.
func (a *Agent) taken(but objects.ID) map[netip.Addr]bool {
	taken := a.takenByAPI(but)
	a.addresses.mu.Lock()
	for _, at := range a.addresses.given {
		take(taken, at)
	}
	a.addresses.mu.Unlock()
	for _, o := range a.sources.services() {
		if objects.IDOf(o.Key()) != but {
			take(taken, o.Object.(*v1.Service).Spec.ClusterIP)
		}
	}
	return taken
}

// servicesFor are the Services of which a Pod's containers may be told.
func (a *Agent) servicesFor(pod *v1.Pod) (found []*v1.Service) {
	for _, o := range a.sources.services() {
		if o.GetNamespace() == pod.Namespace || o.GetNamespace() == metav1.NamespaceDefault {
			found = append(found, o.Object.(*v1.Service))
		}
	}
	return found
}

// seeEndpoints adds what follows from Services and the Pods that they select.
func (a *Agent) seeEndpoints(seen map[objects.ID]sighting) {
	var pods map[string][]*v1.Pod // by namespace
	for _, o := range a.sources.services() {
		s := o.Object.(*v1.Service)
		if !services.Selects(s) {
			continue
		}
		if pods == nil {
			pods = a.podsByNamespace()
		}
		since := a.createdAt(o.Key())
		found := services.Of(s, pods[s.Namespace])
		mark := [2]any{s, services.Mark(found)}
		add := func(kind string, derived metav1.Object) {
			id := objects.IDOf(manifests.Key{Kind: kind, NamespacedName: types.NamespacedName{Namespace: s.Namespace, Name: derived.GetName()}})
			derived.SetCreationTimestamp(since)
			derived.SetUID(types.UID(uuid.NewSHA1(uuid.NameSpaceOID, []byte(id.String()+" "+string(s.UID))).String()))
			seen[id] = sighting{mark, func() (map[string]any, error) { return runtime.DefaultUnstructuredConverter.ToUnstructured(derived) }, 0}
		}
		add(manifests.KindEndpoints, services.Endpoints(s, found))
		for _, slice := range services.EndpointSlices(s, found) {
			add(manifests.KindEndpointSlice, slice)
		}
	}
}

// createdAt is since when there is an object of the API, which has that in itself; of others it is not known.
func (a *Agent) createdAt(key manifests.Key) (since metav1.Time) {
	if o, err := a.objects.Get(objects.IDOf(key)); err == nil {
		since = (&unstructured.Unstructured{Object: o.Content}).GetCreationTimestamp()
	}
	return since
}

// podsByNamespace are the Pods as they are reported.
func (a *Agent) podsByNamespace() map[string][]*v1.Pod {
	pods := map[string][]*v1.Pod{}
	for _, w := range a.all() {
		if pod := w.published.Load(); pod != nil {
			reported := a.reported(pod)
			pods[pod.Namespace] = append(pods[pod.Namespace], &reported)
		}
	}
	return pods
}

// derived says whether an object follows from a Service, and is not for anybody to change.
func (a *Agent) derived(id objects.ID) bool {
	if id.Resource != manifests.ResourceOf(manifests.KindEndpoints) && id.Resource != manifests.ResourceOf(manifests.KindEndpointSlice) {
		return false
	}
	all := map[objects.ID]sighting{}
	a.seeEndpoints(all)
	_, is := all[id]
	return is
}
