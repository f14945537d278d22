// Package stream passes what is no object on to the agent: logs of containers, commands in them, their terminals, and ports of
// Pods. What Kubernetes' API calls it is turned into what the kubelet calls it; the protocols, SPDY and WebSocket, are the agent's.
//
// It must not know what is in a stream.
package stream

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/podkeeper/podkeeper/manifests"
)

// Config is where streams go, and which Pods there are.
type Config struct {
	Agent  *http.Transport // connects with the agent, whatever host is asked for
	Pod    func(types.NamespacedName) (*v1.Pod, error)
	Codecs runtime.NegotiatedSerializer // for faults
}

// Storages answers the subresources of pods, by name.
func Storages(c Config) map[string]rest.Storage {
	return map[string]rest.Storage{
		"log":         &stream{Config: c, object: &v1.Pod{}, verbs: []string{"get"}, serve: c.log},
		"exec":        c.upgraded(&v1.PodExecOptions{}, c.exec),
		"attach":      c.upgraded(&v1.PodAttachOptions{}, c.attach),
		"portforward": c.upgraded(&v1.PodPortForwardOptions{}, c.portForward),
	}
}

// stream is one subresource.
type stream struct {
	Config
	object runtime.Object
	verbs  []string
	serve  func(w http.ResponseWriter, r *http.Request, pod *v1.Pod) error
}

// New is an object of the kind that discovery tells of.
func (s *stream) New() runtime.Object { return s.object.DeepCopyObject() }

// Destroy lets go of nothing.
func (s *stream) Destroy() {}

// Verbs are what may be asked: a stream that is upgraded may be GET or POST.
func (s *stream) Verbs() []string { return s.verbs }

// ServeHTTP answers a request for a Pod's stream.
func (s *stream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	info, _ := request.RequestInfoFrom(r.Context())
	pod, err := s.Pod(types.NamespacedName{Namespace: info.Namespace, Name: info.Name})
	if err == nil {
		err = s.serve(w, r, pod)
	}
	if err != nil {
		s.fail(err, w, r)
	}
}

func (c Config) fail(err error, w http.ResponseWriter, r *http.Request) {
	responsewriters.ErrorNegotiated(err, c.Codecs, v1.SchemeGroupVersion, w, r)
}

// upgraded is a stream whose connection is handed on to the agent, at what where answers.
func (c Config) upgraded(object runtime.Object, where func(pod *v1.Pod, query url.Values) (*url.URL, error)) *stream {
	return &stream{Config: c, object: object, verbs: []string{"create", "get"}, serve: func(w http.ResponseWriter, r *http.Request, pod *v1.Pod) error {
		to, err := where(pod, r.URL.Query())
		if err != nil {
			return err
		}
		proxy.NewUpgradeAwareHandler(to, c.Agent, false, true, refusal{c, w, r}).ServeHTTP(w, r)
		return nil
	}}
}

// refusal tells a client why there is no stream.
type refusal struct {
	Config
	w http.ResponseWriter
	r *http.Request
}

// Error tells it.
func (f refusal) Error(_ http.ResponseWriter, _ *http.Request, err error) { f.fail(err, f.w, f.r) }

func at(kind string, pod *v1.Pod, rest ...string) *url.URL {
	return &url.URL{Scheme: "http", Host: "podkeeper", Path: "/" + strings.Join(append([]string{kind, pod.Namespace, pod.Name}, rest...), "/")}
}

// exec is where a command is run.
func (c Config) exec(pod *v1.Pod, query url.Values) (*url.URL, error) {
	to, err := c.attachTo("exec", pod, query)
	if err == nil && len(query["command"]) == 0 {
		err = errors.NewBadRequest("you must specify at least one command")
	}
	return to, err
}

// attach is where the main process of a container is met.
func (c Config) attach(pod *v1.Pod, query url.Values) (*url.URL, error) {
	return c.attachTo("attach", pod, query)
}

// attachTo says in the kubelet's words which streams are wanted.
func (c Config) attachTo(kind string, pod *v1.Pod, query url.Values) (*url.URL, error) {
	container, err := containerOf(pod, query.Get("container"))
	if err != nil {
		return nil, err
	}
	to := at(kind, pod, container)
	asked := url.Values{"command": query["command"]}
	for ours, theirs := range map[string]string{"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"} {
		if on := query.Get(ours); on == "true" || on == "1" {
			asked.Set(theirs, "1")
		}
	}
	to.RawQuery = asked.Encode()
	return to, nil
}

// portForward is where ports are met.
func (c Config) portForward(pod *v1.Pod, query url.Values) (*url.URL, error) {
	to := at("portForward", pod)
	to.RawQuery = url.Values{"port": query["ports"]}.Encode()
	return to, nil
}

// containerOf is the container that is meant, in the API server's words (kubernetes/kubernetes pkg/registry/core/pod/strategy.go).
func containerOf(pod *v1.Pod, name string) (string, error) {
	var main, init, ephemeral []string
	for _, c := range pod.Spec.Containers {
		main = append(main, c.Name)
	}
	for _, c := range pod.Spec.InitContainers {
		init = append(init, c.Name)
	}
	for _, c := range pod.Spec.EphemeralContainers {
		ephemeral = append(ephemeral, c.Name)
	}
	switch {
	case name != "" && slices.Contains(slices.Concat(main, init, ephemeral), name):
		return name, nil
	case name != "":
		return "", errors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.Name))
	case len(main) == 1:
		return main[0], nil
	}
	words := fmt.Sprintf("a container name must be specified for pod %s, choose one of: [%s]", pod.Name, strings.Join(main, " "))
	if len(init) > 0 {
		words += fmt.Sprintf(" or one of the init containers: [%s]", strings.Join(init, " "))
	}
	if len(ephemeral) > 0 {
		words += fmt.Sprintf(" or one of the ephemeral containers: [%s]", strings.Join(ephemeral, " "))
	}
	return "", errors.NewBadRequest(words)
}

// log answers the log of a container.
func (c Config) log(w http.ResponseWriter, r *http.Request, pod *v1.Pod) error {
	query := r.URL.Query()
	options, err := manifests.LogOptions(query)
	if err != nil {
		return errors.NewBadRequest(err.Error())
	}
	container, err := containerOf(pod, options.Container)
	if err != nil {
		return err
	}
	query.Del("container")
	from := at("containerLogs", pod, container)
	from.RawQuery = query.Encode()
	text := &logText{agent: c.Agent, from: from, follow: options.Follow}
	responsewriters.StreamObject(http.StatusOK, v1.SchemeGroupVersion, c.Codecs, text, w, r)
	return nil
}

// logText is a log, as a rest.ResourceStreamer.
type logText struct {
	agent  *http.Transport
	from   *url.URL
	follow bool
}

// GetObjectKind is of no kind.
func (*logText) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject answers the same: nothing of it changes.
func (l *logText) DeepCopyObject() runtime.Object { return l }

// InputStream begins to read.
func (l *logText) InputStream(ctx context.Context, _, _ string) (stream io.ReadCloser, flush bool, mimeType string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.from.String(), nil)
	if err != nil {
		return nil, false, "", errors.NewInternalError(err)
	}
	res, err := l.agent.RoundTrip(req)
	if err != nil {
		return nil, false, "", errors.NewServiceUnavailable(err.Error())
	}
	if res.StatusCode == http.StatusOK {
		return lastWords{res.Body}, l.follow, "text/plain", nil
	}
	defer res.Body.Close()
	words, err := io.ReadAll(io.LimitReader(res.Body, maxRefusal))
	if err != nil {
		return nil, false, "", errors.NewServiceUnavailable(err.Error())
	}
	fault := errors.NewBadRequest(strings.TrimSpace(string(words)))
	fault.ErrStatus.Code = int32(res.StatusCode)
	if res.StatusCode == http.StatusNotFound {
		fault.ErrStatus.Reason = "NotFound"
	}
	return nil, false, "", fault
}

// lastWords tells of the end after the last text, never along with it: what writes to WebSockets (k8s.io/streaming, wsstream) would
// lose that.
type lastWords struct{ io.ReadCloser }

// Read reads.
func (l lastWords) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	if n > 0 {
		return n, nil // a body says so again
	}
	return n, err
}

// maxRefusal is how much of an answer that is a fault is read, in bytes.
const maxRefusal = 64 << 10
