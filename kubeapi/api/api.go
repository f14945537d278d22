// Package api is Kubernetes' API over HTTP: who asks, what is asked for, whether that is allowed, and discovery. What answers are
// the handlers of k8s.io/apiserver over package rest's storages, as the API server itself has it for custom resources, without its
// generic server.
//
//	request ─▶ who ─▶ RequestInfo ─▶ may he? ─┬─▶ discovery, OpenAPI, version, health
//	                                          ├─▶ handlers ─▶ rest.Storage
//	                                          └─▶ Direct: streams of a Pod
//
// It must not know where objects come from.
package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/warning"
)

// Config is what is served.
type Config struct {
	Scheme     *runtime.Scheme
	Codecs     serializer.CodecFactory
	Storages   map[schema.GroupVersion]map[string]rest.Storage // by resource, or resource/subresource
	Types      managedfields.TypeConverter                     // for server-side apply
	OpenAPI    http.Handler                                    // below /openapi/
	Version    version.Info
	Authorizer authorizer.UnconditionalAuthorizer
	Log        *slog.Logger
}

// Direct is a storage that answers requests by itself.
type Direct interface {
	rest.Storage
	http.Handler
	// Verbs are what it may be asked, as discovery tells.
	Verbs() []string
}

type api struct {
	Config
	endpoints map[schema.GroupVersionResource]map[string]*endpoint // by subresource, "" for the resource itself
	documents map[string]http.Handler                              // of discovery, by path
}

// New answers requests that come with a verified client certificate. The error says which storage is wrong.
func New(c Config) (http.Handler, error) {
	a := &api{Config: c, endpoints: map[schema.GroupVersionResource]map[string]*endpoint{}}
	for gv, storages := range c.Storages {
		for path, storage := range storages {
			if err := a.install(gv, path, storage); err != nil {
				return nil, fmt.Errorf("install %s of %s: %w", path, gv, err)
			}
		}
	}
	if err := a.discover(); err != nil {
		return nil, err
	}
	return a.identified(a.recovered(http.HandlerFunc(a.serve))), nil
}

// resolver reads paths as the API server does.
var resolver = request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}

// identified puts into a request's context who asks and what for, and what the handlers want besides.
func (a *api) identified(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
			a.fail(errors.NewUnauthorized("a client certificate is needed"), w, r)
			return
		}
		info, err := resolver.NewRequestInfo(r)
		if err != nil {
			a.fail(errors.NewBadRequest(err.Error()), w, r)
			return
		}
		subject := r.TLS.VerifiedChains[0][0].Subject
		ctx := request.WithRequestInfo(r.Context(), info)
		ctx = request.WithNamespace(ctx, info.Namespace)
		who, err := a.impersonated(r, &user.DefaultInfo{Name: subject.CommonName, Groups: append(slices.Clone(subject.Organization), user.AllAuthenticated)})
		if err != nil {
			a.fail(err, w, r)
			return
		}
		ctx = request.WithUser(ctx, who)
		ctx = request.WithReceivedTimestamp(ctx, time.Now())
		ctx = audit.WithAuditContext(ctx) // watches and patches want one, though nothing is audited
		ctx = warning.WithWarningRecorder(ctx, warnings{w.Header()})
		w.Header().Set("Cache-Control", "no-cache, private")
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// warnings are told of in headers (RFC 7234, 5.5).
type warnings struct{ header http.Header }

// AddWarning adds one.
func (w warnings) AddWarning(_, text string) {
	w.header.Add("Warning", "299 - "+strconv.Quote(text))
}

// recovered has a request that panics end alone.
func (a *api) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch p := recover(); p {
			case nil:
			case http.ErrAbortHandler:
				panic(p)
			default:
				a.Log.Error("request panicked", "method", r.Method, "path", r.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				reason, _, _ := strings.Cut(fmt.Sprint(p), "\n") // handlers add their stack to it
				a.fail(errors.NewInternalError(fmt.Errorf("panic: %s", reason)), w, r)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

func (a *api) fail(err error, w http.ResponseWriter, r *http.Request) {
	responsewriters.ErrorNegotiated(err, a.Codecs, schema.GroupVersion{Version: "v1"}, w, r)
}

func (a *api) serve(w http.ResponseWriter, r *http.Request) {
	info, _ := request.RequestInfoFrom(r.Context())
	if err := a.authorize(r.Context(), info); err != nil {
		a.fail(err, w, r)
		return
	}
	if !info.IsResourceRequest {
		a.serveOther(w, r, info)
		return
	}
	resource := schema.GroupVersionResource{Group: info.APIGroup, Version: info.APIVersion, Resource: info.Resource}
	e := a.endpoints[resource][info.Subresource]
	switch {
	case e == nil && resource == customResources && info.Verb == "list":
		noCustomResources.ServeHTTP(w, r)
		return
	case e == nil:
		a.fail(unknown(http.StatusNotFound, info), w, r)
		return
	}
	h := e.handler(info)
	if h == nil {
		a.fail(unknown(http.StatusMethodNotAllowed, info), w, r)
		return
	}
	h.ServeHTTP(w, r)
}

// customResources are what kubectl looks for before it makes an object that cannot be patched, such as a review. There are none, and
// discovery does not tell of them.
var customResources = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

var noCustomResources = text("application/json", []byte(`{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinitionList","metadata":{"resourceVersion":"0"},"items":[]}`))

// unknown is what the API server says of what it does not have.
func unknown(code int, info *request.RequestInfo) error {
	return errors.NewGenericServerResponse(code, info.Verb, schema.GroupResource{Group: info.APIGroup, Resource: info.Resource}, info.Name, "", 0, true)
}

// authorize says why somebody may not have what he asks for, in the API server's words.
func (a *api) authorize(ctx context.Context, info *request.RequestInfo) error {
	who, ok := request.UserFrom(ctx)
	if !ok {
		return errors.NewUnauthorized("it is not known who asks")
	}
	attributes := authorizer.AttributesRecord{
		User: who, Verb: info.Verb, Namespace: info.Namespace, APIGroup: info.APIGroup, APIVersion: info.APIVersion, Resource: info.Resource,
		Subresource: info.Subresource, Name: info.Name, ResourceRequest: info.IsResourceRequest, Path: info.Path,
	}
	decision, reason, err := a.Authorizer.Authorize(ctx, attributes)
	switch {
	case decision == authorizer.DecisionAllow:
		return nil
	case err != nil:
		return errors.NewInternalError(err)
	}
	return responsewriters.ForbiddenStatusError(attributes, reason)
}

// serveOther answers what is no request for a resource.
func (a *api) serveOther(w http.ResponseWriter, r *http.Request, info *request.RequestInfo) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		a.fail(unknown(http.StatusMethodNotAllowed, info), w, r)
		return
	}
	if h := a.documents[trimSlash(r.URL.Path)]; h != nil {
		h.ServeHTTP(w, r)
		return
	}
	if under(r.URL.Path, "/openapi") {
		a.OpenAPI.ServeHTTP(w, r)
		return
	}
	a.fail(unknown(http.StatusNotFound, info), w, r)
}
