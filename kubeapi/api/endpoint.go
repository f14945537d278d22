package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apiserver/pkg/endpoints/handlers"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
)

const (
	// maxBody is how large a request may be, in bytes: the API server's limit.
	maxBody = 3 << 20
	// shortestWatch is how long a watch lasts at least that says nothing of it: the API server's default.
	shortestWatch = 30 * time.Minute
)

// endpoint is one resource or subresource.
type endpoint struct {
	storage  rest.Storage
	scope    *handlers.RequestScope
	resource metav1.APIResource
}

// install makes a storage be answered for.
func (a *api) install(gv schema.GroupVersion, path string, storage rest.Storage) error {
	resource, sub, _ := strings.Cut(path, "/")
	parent := a.Storages[gv][resource]
	if parent == nil {
		parent = storage
	}
	scoper, ok := parent.(rest.Scoper)
	if !ok {
		return errors.New("it does not say whether it is in namespaces")
	}
	kind, err := a.kindOf(gv, storage)
	if err != nil {
		return err
	}
	scope, err := a.scope(gv.WithResource(resource), sub, kind, storage)
	if err != nil {
		return err
	}
	scope.Namer = handlers.ContextBasedNaming{Namer: runtime.Namer(meta.NewAccessor()), ClusterScoped: !scoper.NamespaceScoped()}
	e := &endpoint{storage: storage, scope: scope}
	e.describe(path, scoper.NamespaceScoped(), gv)
	key := gv.WithResource(resource)
	if a.endpoints[key] == nil {
		a.endpoints[key] = map[string]*endpoint{}
	}
	a.endpoints[key][sub] = e
	return nil
}

func (a *api) kindOf(gv schema.GroupVersion, storage rest.Storage) (schema.GroupVersionKind, error) {
	if says, ok := storage.(rest.GroupVersionKindProvider); ok {
		return says.GroupVersionKind(gv), nil
	}
	kinds, _, err := a.Scheme.ObjectKinds(storage.New())
	if err != nil {
		return schema.GroupVersionKind{}, fmt.Errorf("find its kind: %w", err)
	}
	return kinds[0], nil
}

// scope is what the handlers want to know.
func (a *api) scope(resource schema.GroupVersionResource, sub string, kind schema.GroupVersionKind, storage rest.Storage) (*handlers.RequestScope, error) {
	scope := &handlers.RequestScope{
		Serializer: a.Codecs, ParameterCodec: runtime.NewParameterCodec(a.Scheme), Creater: a.Scheme, Convertor: a.Scheme, Defaulter: a.Scheme, Typer: a.Scheme,
		UnsafeConvertor: runtime.UnsafeObjectConvertor(a.Scheme), Authorizer: a.Authorizer, EquivalentResourceMapper: runtime.NewEquivalentResourceRegistry(),
		TableConvertor: rest.NewDefaultTableConvertor(resource.GroupResource()), Resource: resource, Subresource: sub, Kind: kind,
		HubGroupVersion: kind.GroupVersion(), MetaGroupVersion: metav1.SchemeGroupVersion, MaxRequestBodyBytes: maxBody,
	}
	if table, ok := storage.(rest.TableConvertor); ok {
		scope.TableConvertor = table
	}
	if accepts, ok := storage.(rest.GroupVersionAcceptor); ok {
		scope.AcceptsGroupVersionDelegate = accepts
	}
	var err error // the handlers of POST, PUT and PATCH note who manages which fields
	scope.FieldManager, err = managedfields.NewDefaultFieldManager(a.Types, scope.UnsafeConvertor, a.Scheme, a.Scheme, kind, scope.HubGroupVersion, sub, nil)
	return scope, err
}

// describe says what discovery tells.
func (e *endpoint) describe(path string, namespaced bool, gv schema.GroupVersion) {
	kind := e.scope.Kind
	e.resource = metav1.APIResource{Name: path, Namespaced: namespaced, Kind: kind.Kind, Verbs: e.verbs()}
	if kind.GroupVersion() != gv {
		e.resource.Group, e.resource.Version = kind.Group, kind.Version
	}
	if strings.Contains(path, "/") {
		return
	}
	if named, ok := e.storage.(rest.SingularNameProvider); ok {
		e.resource.SingularName = named.GetSingularName()
	}
	if short, ok := e.storage.(rest.ShortNamesProvider); ok {
		e.resource.ShortNames = short.ShortNames()
	}
	if in, ok := e.storage.(rest.CategoriesProvider); ok {
		e.resource.Categories = in.Categories()
	}
}

var patchTypes = []string{
	string(types.JSONPatchType), string(types.MergePatchType), string(types.StrategicMergePatchType), string(types.ApplyYAMLPatchType),
}

// handler answers what is asked of the endpoint, nil where it cannot be.
func (e *endpoint) handler(info *request.RequestInfo) http.Handler {
	if direct, ok := e.storage.(Direct); ok {
		if slices.Contains(direct.Verbs(), info.Verb) {
			return direct
		}
		return nil
	}
	switch info.Verb {
	case "get", "list", "watch":
		return e.reader(info.Verb)
	case "create":
		if of, ok := e.storage.(rest.NamedCreater); ok {
			return handlers.CreateNamedResource(of, e.scope, nil)
		}
		if of, ok := e.storage.(rest.Creater); ok {
			return handlers.CreateResource(of, e.scope, nil)
		}
	case "update":
		if of, ok := e.storage.(rest.Updater); ok {
			return handlers.UpdateResource(of, e.scope, nil)
		}
	case "patch":
		if of, ok := e.storage.(rest.Patcher); ok {
			return testable(handlers.PatchResource(of, e.scope, nil, patchTypes), e.scope)
		}
	case "delete":
		if of, ok := e.storage.(rest.GracefulDeleter); ok {
			return handlers.DeleteResource(of, true, e.scope, nil)
		}
	case "deletecollection":
		if of, ok := e.storage.(rest.CollectionDeleter); ok {
			return handlers.DeleteCollection(of, true, e.scope, nil)
		}
	}
	return nil
}

// testable refuses a JSON patch that tests the whole object for nothing at all, which its library does not survive.
func testable(next http.Handler, scope *handlers.RequestScope) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); mediaType != string(types.JSONPatchType) {
			next.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
		if err != nil {
			responsewriters.ErrorNegotiated(apierrors.NewBadRequest(fmt.Sprintf("read patch: %v", err)), scope.Serializer, scope.Kind.GroupVersion(), w, r)
			return
		}
		var steps []map[string]any
		_ = json.Unmarshal(body, &steps) // what is wrong with it is told by next
		for i, step := range steps {
			if _, has := step["value"]; !has && step["op"] == "test" {
				fault := apierrors.NewBadRequest(fmt.Sprintf("step %d of the JSON patch tests for no value", i))
				responsewriters.ErrorNegotiated(fault, scope.Serializer, scope.Kind.GroupVersion(), w, r)
				return
			}
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}

func (e *endpoint) reader(verb string) http.Handler {
	lister, lists := e.storage.(rest.Lister)
	watcher, watches := e.storage.(rest.Watcher)
	getter, gets := e.storage.(rest.Getter)
	switch {
	case verb == "get" && gets:
		return handlers.GetResource(getter, e.scope)
	case verb == "list" && lists:
		return handlers.ListResource(lister, watcher, e.scope, false, shortestWatch)
	case verb == "watch" && lists && watches:
		return handlers.ListResource(lister, watcher, e.scope, true, shortestWatch)
	}
	return nil
}

// verbs are what may be asked of the endpoint, sorted as the API server does.
func (e *endpoint) verbs() (can metav1.Verbs) {
	if direct, ok := e.storage.(Direct); ok {
		return direct.Verbs()
	}
	for _, verb := range []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"} {
		if e.handler(&request.RequestInfo{Verb: verb}) != nil {
			can = append(can, verb)
		}
	}
	return can
}
