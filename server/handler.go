package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Handler answers GET /pods (a v1.PodList, sorted by namespace and name), /events (a v1.EventList), /manifests
// ([Manifests]), /healthz, /metrics, /metrics/resource, /metrics/cadvisor, /node (a v1.Node) and /stats/summary ([Summary], with the kubelet's ?only_cpu_and_memory=true). ?namespace=
// narrows /pods and /events down. POST /retry?namespace=&name= has what waits in a Pod tried at once: 204, or 404 where there is
// no such Pod. POST /shorten?namespace=&name=&gracePeriodSeconds= has a Pod that ends be over by then: 204, 404, or 409 where it
// does not end. POST /pods/<namespace>/<name>/ephemeralcontainers with a v1.EphemeralContainer adds one to a Pod that runs, and
// answers the Pod: 200, or 404, 409 where it does not run, 422 where the container is wrong. GET /objects answers all objects and then every change, [Change]s as lines of JSON. PUT and
// DELETE /objects/<resource>/<namespace>/<name> make and remove objects (_ is no namespace), with If-Match: <resourceVersion> or
// If-None-Match: *, and for Pods ?gracePeriodSeconds=; ?dryRun=true only checks: 200 with the object, and a Warning where a Pod stands in a manifest and
// begins anew, or 404, 409 where there is one already, 412 where it is another one, 403 where it stands in a manifest, 422 where
// it is wrong, 507 where the disk is full. PUT …/status of a Pod takes conditions that are not the kubelet's own.
// POST /serviceaccounts/<namespace>/<name>/token with an authentication.k8s.io/v1
// TokenRequest answers it with a token of that account: 200, or 404, 400 where it cannot be bound to what is named, 412 where that is
// another one, 422 where the request is wrong. GET /containerLogs/<namespace>/<pod>/<container> answers the text of its log, with the
// query of a v1.PodLogOptions: 200, or 404, 400 where there is no such log, 422 where the query is wrong. POST or GET
// /exec/<namespace>/<pod>/<container> runs a command in a container that runs, with the kubelet's query (command, input, output,
// error, tty) and its protocols, SPDY or WebSocket (channel.k8s.io, up to v5): 404, or 500 where the container does not run,
// in the kubelet's words. The command ends with the connection. The same at
// /attach/<namespace>/<pod>/<container> connects with the main process; without stdinOnce the end of the input detaches. POST or GET
// /portForward/<namespace>/<pod> does the same with TCP ports of the Pod's loopback: SPDY, which may be inside of a WebSocket
// (SPDY/3.1+portforward.k8s.io), or WebSocket with ?port=. Another path is a 404 and another method a 405, both
// saying what there is. POST /drain has all Pods of the node end, DELETE has them be back, and each, like GET, answers a [Drain].
func Handler(src Source, metrics prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	paths := map[string]http.Handler{
		"/pods":      readOnly(pods(src)),
		"/events":    readOnly(events(src)),
		"/manifests": readOnly(manifests(src)),
		"/healthz":   readOnly(healthz(src)),
		"/metrics":   readOnly(promhttp.HandlerFor(metrics, promhttp.HandlerOpts{})),
		"/retry":     retry(src),
		"/shorten":   shorten(src),
		"/drain":     drain(src),

		"/node":             readOnly(nodeOf(src)),
		"/stats/summary":    readOnly(summary(src)),
		"/metrics/resource": readOnly(series(src.Resources)),
		"/metrics/cadvisor": readOnly(series(src.Containers)),

		"/pods/{namespace}/{name}/ephemeralcontainers":  ephemeral(src),
		"/containerLogs/{namespace}/{name}/{container}": readOnly(containerLog(src)),
		"/serviceaccounts/{namespace}/{name}/token":     token(src),
		"/objects":                                      readOnly(follow(src)),
		"/objects/{resource}/{namespace}/{name}":        object(src),
		"/objects/{resource}/{namespace}/{name}/status": objectStatus(src),
		"/exec/{namespace}/{name}/{container}":          execute(src),
		"/portForward/{namespace}/{name}":               portForward(src),
		"/attach/{namespace}/{name}/{container}":        attach(src),
	}
	var known []string
	for path, h := range paths {
		mux.Handle(path, h)
		known = append(known, path)
	}
	slices.Sort(known)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, fmt.Sprintf("there is no %s here; there are %s", r.URL.Path, strings.Join(known, ", ")), http.StatusNotFound)
	})
	return mux
}

// readOnly lets reading requests through.
func readOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, fmt.Sprintf("%s can only be read, with GET: Pods are changed through their manifests", r.URL.Path), http.StatusMethodNotAllowed)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func pods(src Source) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		list := v1.PodList{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"},
			Items:    inNamespace(src.Pods(), r, func(p v1.Pod) string { return p.Namespace }),
		}
		slices.SortFunc(list.Items, func(a, b v1.Pod) int {
			return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
		})
		writeJSON(w, list)
	}
}

func events(src Source) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, v1.EventList{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "EventList"},
			Items:    inNamespace(src.Events(), r, func(e v1.Event) string { return e.Namespace }),
		})
	}
}

func manifests(src Source) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		m := src.Manifests()
		m.Pods = append([]ManifestPod{}, m.Pods...) // [] and not null where there are none
		m.Objects = append([]ManifestObject{}, m.Objects...)
		m.Refused = append([]Refused{}, m.Refused...)
		writeJSON(w, m)
	}
}

func healthz(src Source) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if err := src.Healthy(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		writeBody(w, "text/plain; charset=utf-8", []byte("ok"))
	}
}

func summary(src Source) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		found, err := src.Stats(r.Context(), r.URL.Query().Get("only_cpu_and_memory") == "true")
		if err != nil {
			http.Error(w, err.Error(), codeOf(err))
			return
		}
		writeJSON(w, found)
	}
}

func nodeOf(src Source) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { writeJSON(w, src.Node(r.Context())) }
}

func series(of func(context.Context) prometheus.Gatherer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		promhttp.HandlerFor(of(r.Context()), promhttp.HandlerOpts{}).ServeHTTP(w, r)
	}
}

func retry(src Source) http.HandlerFunc {
	return about(func(w http.ResponseWriter, _ *http.Request, pod types.NamespacedName) {
		if err := src.Retry(pod); err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

// Drain is whether the node is drained, and how many Pods still run.
type Drain struct {
	Drained bool `json:"drained"`
	Running int  `json:"running"`
}

func drain(src Source) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodPost, http.MethodDelete:
			if err := src.Drain(r.Method == http.MethodPost); err != nil {
				http.Error(w, err.Error(), codeOf(err))
				return
			}
		case http.MethodGet, http.MethodHead:
		default:
			w.Header().Set("Allow", "GET, HEAD, POST, DELETE")
			http.Error(w, "the node is drained with POST, and resumed with DELETE", http.StatusMethodNotAllowed)
			return
		}
		on, left := src.Drained()
		writeJSON(w, Drain{on, left})
	}
}

func shorten(src Source) http.HandlerFunc {
	return about(func(w http.ResponseWriter, r *http.Request, pod types.NamespacedName) {
		seconds, err := strconv.ParseUint(r.URL.Query().Get("gracePeriodSeconds"), 10, 31)
		if err != nil {
			http.Error(w, "in what time? ask with gracePeriodSeconds=SECONDS", http.StatusBadRequest)
			return
		}
		if err := src.Shorten(pod, time.Duration(seconds)*time.Second); err != nil {
			http.Error(w, err.Error(), codeOf(err))
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

// about answers a POST that is about one Pod.
func about(do func(w http.ResponseWriter, r *http.Request, pod types.NamespacedName)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", "POST")
			http.Error(w, fmt.Sprintf("%s can only be asked for, with POST", r.URL.Path), http.StatusMethodNotAllowed)
			return
		}
		pod := types.NamespacedName{Namespace: r.URL.Query().Get("namespace"), Name: r.URL.Query().Get("name")}
		if pod.Namespace == "" || pod.Name == "" {
			http.Error(w, "which Pod? ask with ?namespace=NAMESPACE&name=NAME", http.StatusBadRequest)
			return
		}
		do(w, r, pod)
	}
}

func ephemeral(src Source) http.HandlerFunc {
	return posted("ephemeral container", "ephemeral containers can only be added, with POST; GET /pods tells of them", src.AddEphemeral)
}

func token(src Source) http.HandlerFunc {
	return posted("request for a token", "tokens can only be asked for, with POST: they are kept nowhere", src.Token)
}

// maxPosted is how large an ephemeral container, or a request for a token, may be, in bytes.
const maxPosted = 1 << 20

// posted answers a POST of something for what the path names; refusal is for other methods.
func posted[T any](what, refusal string, do func(of types.NamespacedName, body []byte) (T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", "POST")
			http.Error(w, refusal, http.StatusMethodNotAllowed)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPosted))
		if err != nil {
			http.Error(w, fmt.Sprintf("read %s: %v", what, err), http.StatusBadRequest)
			return
		}
		answer, err := do(types.NamespacedName{Namespace: r.PathValue("namespace"), Name: r.PathValue("name")}, body)
		if err != nil {
			http.Error(w, err.Error(), codeOf(err))
			return
		}
		writeJSON(w, answer)
	}
}

func containerLog(src Source) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		pod := types.NamespacedName{Namespace: r.PathValue("namespace"), Name: r.PathValue("name")}
		write, err := src.Log(pod, r.PathValue("container"), r.URL.Query())
		if err != nil {
			http.Error(w, err.Error(), codeOf(err))
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		out := flushed{w, http.NewResponseController(w)}
		if out.Flush() != nil { // a reader that follows is told at once that there is a log
			return
		}
		if write(r.Context(), out) != nil {
			panic(http.ErrAbortHandler) // the reader is not to take what it has for all
		}
	}
}

// flushed passes every piece on at once.
type flushed struct {
	io.Writer
	*http.ResponseController
}

// Write writes a piece.
func (f flushed) Write(p []byte) (int, error) {
	n, err := f.Writer.Write(p)
	if err != nil {
		return n, err
	}
	return n, f.Flush()
}

func follow(src Source) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/jsonl")
		lines := json.NewEncoder(flushed{w, http.NewResponseController(w)})
		if src.Follow(r.Context(), func(c Change) error { return lines.Encode(c) }) != nil {
			panic(http.ErrAbortHandler) // the reader is not to take what it has for all
		}
	}
}

// maxObject is how large an object may be, in bytes: Kubernetes' limit of a request.
const maxObject = 3 << 20

// noNamespace stands for the namespace in the paths of objects that are in none.
const noNamespace = "_"

func object(src Source) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id := idOf(r)
		want, grace, err := conditions(r)
		var answer []byte
		switch {
		case err != nil:
		case r.Method == http.MethodPut:
			answer, err = put(w, r, want, src.PutObject)
		case r.Method == http.MethodDelete:
			var warning string
			if answer, warning, err = src.DeleteObject(id, want, grace); warning != "" {
				w.Header().Set("Warning", fmt.Sprintf("299 - %q", warning)) // as an API server has it (RFC 7234, 5.5)
			}
		default:
			w.Header().Set("Allow", "PUT, DELETE")
			http.Error(w, "objects can be made or changed, with PUT, and removed, with DELETE", http.StatusMethodNotAllowed)
			return
		}
		if err != nil {
			http.Error(w, err.Error(), codeOf(err))
			return
		}
		writeBody(w, "application/json", append(answer, '\n'))
	}
}

// idOf is the object that a request is about.
func idOf(r *http.Request) ObjectID {
	id := ObjectID{Resource: r.PathValue("resource"), Namespace: r.PathValue("namespace"), Name: r.PathValue("name")}
	if id.Namespace == noNamespace {
		id.Namespace = ""
	}
	return id
}

// put has an object, or a part of one, be what a request has in its body.
func put(w http.ResponseWriter, r *http.Request, want Condition, do func(ObjectID, []byte, Condition) ([]byte, error)) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxObject))
	if err != nil {
		return nil, BadRequest(fmt.Sprintf("read object: %v", err))
	}
	return do(idOf(r), body, want)
}

func objectStatus(src Source) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut {
			w.Header().Set("Allow", "PUT")
			http.Error(w, "the status of an object can be changed, with PUT", http.StatusMethodNotAllowed)
			return
		}
		want, _, err := conditions(r)
		var answer []byte
		if err == nil {
			answer, err = put(w, r, want, src.PutStatus)
		}
		if err != nil {
			http.Error(w, err.Error(), codeOf(err))
			return
		}
		writeBody(w, "application/json", append(answer, '\n'))
	}
}

// conditions reads what a request wants to hold of an object: If-Match with a revision, or If-None-Match: *; and, in the
// query, whether it is only to be checked, and within how many seconds a Pod has to end.
func conditions(r *http.Request) (want Condition, grace *time.Duration, err error) {
	if match := r.Header.Get("If-Match"); match != "" {
		if want.Revision, err = strconv.ParseUint(strings.Trim(match, `"`), 10, 64); err != nil {
			return want, nil, BadRequest(fmt.Sprintf("If-Match: %s: want a resourceVersion", match))
		}
	}
	switch none := r.Header.Get("If-None-Match"); none {
	case "":
	case "*":
		want.New = true
	default:
		return want, nil, BadRequest(fmt.Sprintf("If-None-Match: %s: want *", none))
	}
	switch dry := r.URL.Query().Get("dryRun"); dry {
	case "", "false":
	case "true":
		want.DryRun = true
	default:
		return want, nil, BadRequest(fmt.Sprintf("dryRun=%s: want true or false", dry))
	}
	if text := r.URL.Query().Get("gracePeriodSeconds"); text != "" {
		seconds, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return want, nil, BadRequest(fmt.Sprintf("gracePeriodSeconds=%s: want a number of seconds", text))
		}
		d := time.Duration(seconds) * time.Second
		grace = &d
	}
	return want, grace, nil
}

func codeOf(err error) int {
	switch {
	case errors.Is(err, ErrNoPod), errors.Is(err, ErrNoObject):
		return http.StatusNotFound
	case errors.Is(err, ErrForbidden):
		return http.StatusForbidden
	case errors.Is(err, ErrChanged):
		return http.StatusPreconditionFailed
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return http.StatusInsufficientStorage
	case errors.Is(err, ErrConflict):
		return http.StatusConflict
	case errors.Is(err, ErrInvalid):
		return http.StatusUnprocessableEntity
	case errors.Is(err, ErrBadRequest):
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}

// inNamespace are the items of the namespace that the request asks for, or all of them. It is never nil, which JSON
// would show as null.
func inNamespace[T any](items []T, r *http.Request, namespace func(T) string) []T {
	want := r.URL.Query().Get("namespace")
	kept := make([]T, 0, len(items))
	for _, item := range items {
		if want == "" || namespace(item) == want {
			kept = append(kept, item)
		}
	}
	return kept
}

// writeJSON answers with v. It is encoded in full first, so that a fault of encoding is still a 500.
func writeJSON(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, fmt.Sprintf("encode response: %v", err), http.StatusInternalServerError)
		return
	}
	writeBody(w, "application/json", append(body, '\n'))
}

// writeBody sends the answer. When that fails the reader has gone away, and there is nobody left to tell.
func writeBody(w http.ResponseWriter, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	_, _ = w.Write(body)
}
