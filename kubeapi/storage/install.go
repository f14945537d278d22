package storage

import (
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage/names"

	"github.com/podkeeper/podkeeper/kubeapi/mirror"
)

// Storages answers the storages of all resources, by group version and resource or resource/subresource. tables says how one is printed.
func Storages(m *mirror.Mirror, agent Agent, tables func(*Resource) rest.TableConvertor) map[schema.GroupVersion]map[string]rest.Storage {
	all := map[schema.GroupVersion]map[string]rest.Storage{}
	for _, r := range Resources() {
		gv := r.GroupVersion()
		if all[gv] == nil {
			all[gv] = map[string]rest.Storage{}
		}
		c := &Changeable{
			Objects: &Objects{Resource: r, TableConvertor: tables(r), table: m.Table(r.GroupResource())}, agent: agent, look: m.Table,
			strategy: strategy{ObjectTyper: Scheme, NameGenerator: names.SimpleNameGenerator, Resource: r, edit: whole},
		}
		c.write = c.putWhole
		all[gv][r.GroupResource().Resource] = c
		if r.Kind == "Pod" {
			all[gv]["pods/status"], all[gv]["pods/ephemeralcontainers"], all[gv]["pods/resize"] = c.status(), c.ephemeral(), c.resize()
			all[gv]["pods/eviction"], all[gv]["pods/binding"] = &Eviction{c}, &Binding{c}
		}
		if r.Kind == "Event" {
			all[eventsv1.SchemeGroupVersion] = map[string]rest.Storage{"events": c.asEvents(tables)}
		}
	}
	return all
}
