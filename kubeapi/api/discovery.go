package api

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	apidiscovery "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/discovery"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
)

// discover makes the documents that say what there is.
func (a *api) discover() error {
	addresses := discovery.DefaultAddresses{}
	core, named := aggregated.NewResourceManager("api"), aggregated.NewResourceManager("apis")
	groups := discovery.NewRootAPIsHandler(addresses, a.Codecs)
	a.documents = map[string]http.Handler{}
	for _, gv := range slices.SortedFunc(maps.Keys(a.Storages), func(x, y schema.GroupVersion) int { return cmp.Compare(x.String(), y.String()) }) {
		resources := a.resources(gv)
		list := discovery.NewAPIVersionHandler(a.Codecs, gv, discovery.APIResourceListerFunc(func() []metav1.APIResource { return resources }))
		version := apidiscovery.APIVersionDiscovery{Version: gv.Version, Freshness: apidiscovery.DiscoveryFreshnessCurrent, Resources: together(resources, gv)}
		if gv.Group == "" {
			core.AddGroupVersion("", version)
			a.documents["/api/"+gv.Version] = list
			continue
		}
		named.AddGroupVersion(gv.Group, version)
		is := metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: gv.Version}
		group := metav1.APIGroup{Name: gv.Group, Versions: []metav1.GroupVersionForDiscovery{is}, PreferredVersion: is}
		groups.AddGroup(group)
		a.documents["/apis/"+gv.Group] = discovery.NewAPIGroupHandler(a.Codecs, group)
		a.documents["/apis/"+gv.String()] = list
	}
	a.documents["/api"] = aggregated.WrapAggregatedDiscoveryToHandler(discovery.NewLegacyRootAPIHandler(addresses, a.Codecs, "/api"), core, nil)
	a.documents["/apis"] = aggregated.WrapAggregatedDiscoveryToHandler(groups, named, nil)
	return a.others()
}

// others are the documents that are about no resource.
func (a *api) others() error {
	version, err := document("application/json", a.Version)
	if err != nil {
		return err
	}
	a.documents["/version"] = version
	for _, path := range []string{"/healthz", "/livez", "/readyz"} {
		a.documents[path] = text("text/plain; charset=utf-8", []byte("ok"))
	}
	paths := append(slices.Sorted(maps.Keys(a.documents)), "/openapi/v2", "/openapi/v3")
	slices.Sort(paths)
	a.documents[""], err = document("application/json", metav1.RootPaths{Paths: paths})
	return err
}

func document(mediaType string, of any) (http.Handler, error) {
	body, err := json.MarshalIndent(of, "", "  ")
	return text(mediaType, body), err
}

func text(mediaType string, body []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", mediaType)
		_, _ = w.Write(body) // else the reader has gone away
	})
}

// resources are those of a group version, sorted.
func (a *api) resources(gv schema.GroupVersion) []metav1.APIResource {
	found := []metav1.APIResource{}
	for path := range a.Storages[gv] {
		resource, sub, _ := strings.Cut(path, "/")
		found = append(found, a.endpoints[gv.WithResource(resource)][sub].resource)
	}
	slices.SortFunc(found, func(x, y metav1.APIResource) int { return cmp.Compare(x.Name, y.Name) })
	return found
}

// together puts subresources below their resources, which stand before them in the list.
func together(list []metav1.APIResource, gv schema.GroupVersion) []apidiscovery.APIResourceDiscovery {
	var found []apidiscovery.APIResourceDiscovery
	for _, r := range list {
		kind := &metav1.GroupVersionKind{Group: cmp.Or(r.Group, gv.Group), Version: cmp.Or(r.Version, gv.Version), Kind: r.Kind}
		if _, sub, is := strings.Cut(r.Name, "/"); is {
			parent := &found[len(found)-1]
			parent.Subresources = append(parent.Subresources, apidiscovery.APISubresourceDiscovery{Subresource: sub, ResponseKind: kind, Verbs: r.Verbs})
			continue
		}
		scope := apidiscovery.ScopeCluster
		if r.Namespaced {
			scope = apidiscovery.ScopeNamespace
		}
		found = append(found, apidiscovery.APIResourceDiscovery{
			Resource: r.Name, ResponseKind: kind, Scope: scope, SingularResource: r.SingularName, Verbs: r.Verbs, ShortNames: r.ShortNames, Categories: r.Categories,
		})
	}
	return found
}

func trimSlash(path string) string { return strings.TrimRight(path, "/") }

func under(path, folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") }
