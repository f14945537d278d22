package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"
)

// config is the administrator's, for clients that are not held back.
func (k *kubectl) config() *rest.Config {
	k.t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", k.path("root", "kubeconfig"))
	if err != nil {
		k.t.Fatal(err)
	}
	config.QPS = -1
	return config
}

// clientset is a client of the node's API.
func (k *kubectl) clientset() *kubernetes.Clientset {
	k.t.Helper()
	c, err := kubernetes.NewForConfig(k.config())
	if err != nil {
		k.t.Fatal(err)
	}
	return c
}

// apiPID is the process that answers, 0 where there is none.
func (k *kubectl) apiPID() int {
	k.t.Helper()
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range all {
		args, _ := os.ReadFile(file)
		var pid int
		if _, err := fmt.Sscanf(file, "/proc/%d/cmdline", &pid); err == nil && bytes.Contains(args, []byte("--agent-socket\x00"+k.path("run", "podkeeper-api.sock"))) && runs(pid) {
			return pid
		}
	}
	return 0
}

// killAPI ends the process that answers as a crash would.
func (k *kubectl) killAPI() {
	k.t.Helper()
	pid := k.apiPID()
	if pid == 0 {
		k.t.Fatal("nobody answers")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		k.t.Fatal(err)
	}
}

// counter writes one number after another into a ConfigMap.
type counter struct {
	client      *kubernetes.Clientset
	tried, done atomic.Int64 // the number that was asked for, and acknowledged, last
	failed      atomic.Value // why the last one was not
	ended       chan struct{}
}

// count counts until ctx ends.
func (k *kubectl) count(ctx context.Context) *counter {
	k.t.Helper()
	c := &counter{client: k.clientset(), ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		for ctx.Err() == nil {
			if err := c.next(ctx); err != nil {
				c.failed.Store(err.Error())
				time.Sleep(pause)
			}
		}
	}()
	return c
}

func (c *counter) next(ctx context.Context) error {
	n := c.done.Load() + 1
	c.tried.Store(n)
	text := fmt.Sprintf(`{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "counter"}, "data": {"n": "%d"}}`, n)
	_, err := c.client.CoreV1().ConfigMaps("default").Patch(ctx, "counter", types.ApplyPatchType, []byte(text), metav1.PatchOptions{FieldManager: "test"})
	if err == nil {
		c.done.Store(n)
	}
	return err
}

// goesOn waits until it has counted on.
func (k *kubectl) goesOn(c *counter) {
	k.t.Helper()
	begun := c.done.Load()
	k.eventually("what is written is acknowledged", func() error {
		if n := c.done.Load(); n < begun+3 {
			return fmt.Errorf("%d after %d: %v", n, begun, c.failed.Load())
		}
		return nil
	})
}

// wholeObjects says which file of an object is not whole.
func (n *node) wholeObjects() error {
	files, err := filepath.Glob(n.path("root", "objects", "*.yaml"))
	if err == nil && len(files) == 0 {
		err = errors.New("there are no objects")
	}
	for _, file := range files {
		content, readErr := os.ReadFile(file)
		var o metav1.PartialObjectMetadata
		if readErr == nil {
			readErr = yaml.Unmarshal(content, &o)
		}
		if readErr == nil && (o.Name == "" || o.UID == "" || o.Kind == "" || !bytes.HasSuffix(content, []byte("\n"))) {
			readErr = fmt.Errorf("%s is not whole: %q", file, content)
		}
		err = errors.Join(err, readErr)
	}
	return err
}

func TestWhatAnswersKubectlIsKilled(t *testing.T) {
	t.Parallel()
	k := launch(t).kubectl()
	k.write("web.yaml", web("web"))
	k.all(
		row{"apply -f web.yaml", "created"},
		row{"wait --for=condition=Ready pod/web", "condition met"},
	)
	before := k.awaitReady("web")
	for i, end := range []struct {
		what string
		do   func()
	}{
		{"the API", k.killAPI}, {"the agent", k.kill}, {"the API again", k.killAPI}, {"the agent again", k.kill},
	} {
		ends := k.busy(i)
		ctx, cancel := context.WithCancel(t.Context())
		c := k.count(ctx)
		k.goesOn(c)
		end.do()
		if err := k.wholeObjects(); err != nil {
			t.Errorf("after %s was killed: %v", end.what, err)
		}
		if strings.HasPrefix(end.what, "the agent") {
			k.restart()
		}
		for command, ended := range ends {
			k.eventually(command+" ends with "+end.what, func() error {
				select {
				case <-ended:
					return nil
				default:
					return errors.New("it goes on")
				}
			})
		}
		k.all(row{"get pods", "^web +1/1 +Running +0 "})
		if strings.HasPrefix(end.what, "the API") {
			k.eventually("the command in the container has ended", func() error {
				out, err := k.run("exec web -- ps")
				if err == nil && strings.Contains(out, fmt.Sprintf("sleep 300%d\n", i)) {
					err = errors.New("it runs: " + out)
				}
				return err
			})
		}
		k.goesOn(c)
		cancel()
		<-c.ended
		found, err := k.clientset().CoreV1().ConfigMaps("default").Get(t.Context(), "counter", metav1.GetOptions{})
		if err != nil || found.Data["n"] != fmt.Sprint(c.done.Load()) && found.Data["n"] != fmt.Sprint(c.tried.Load()) {
			t.Errorf("after %s was killed, %d was acknowledged and %d tried, but there is %v: %v", end.what, c.done.Load(), c.tried.Load(), found.Data, err)
		}
		after := k.awaitReady("web")
		if was, is := containerStatus(before, "app"), containerStatus(after, "app"); after.UID != before.UID || is.ContainerID != was.ContainerID || is.RestartCount != 0 {
			t.Errorf("the end of %s has touched a Pod: %+v", end.what, after.Status)
		}
	}
}

// busy begins what goes on until somebody is killed, and tells when each ends.
func (k *kubectl) busy(round int) map[string]<-chan struct{} {
	k.t.Helper()
	ends := map[string]<-chan struct{}{}
	for command, want := range map[string]string{
		"get pods -w": "^web ", "logs -f web": "^began$", fmt.Sprintf("exec -i web -- sh -c 'echo here; exec sleep 300%d'", round): "^here",
	} {
		ctx, cancel := context.WithCancel(context.Background())
		cmd := k.cmd(ctx, command)
		said := &syncBuffer{}
		cmd.Stdout, cmd.Stderr = said, said
		in, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			cancel()
			k.t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { _ = cmd.Wait(); close(ended) }()
		k.t.Cleanup(func() { cancel(); _ = in.Close(); <-ended })
		k.hears(said, want)
		ends[command] = ended
	}
	return ends
}

func TestWatchesFromBeforeARestartAreExpired(t *testing.T) {
	t.Parallel()
	k := launch(t).kubectl()
	client := k.clientset()
	core, access := client.CoreV1(), client.RbacV1()
	watches := map[string]func(metav1.ListOptions) error{
		"configmaps": func(o metav1.ListOptions) error {
			return watched(core.ConfigMaps("default").Watch(t.Context(), o))
		},
		"pods":         func(o metav1.ListOptions) error { return watched(core.Pods("").Watch(t.Context(), o)) },
		"clusterroles": func(o metav1.ListOptions) error { return watched(access.ClusterRoles().Watch(t.Context(), o)) },
		"leases": func(o metav1.ListOptions) error {
			return watched(client.CoordinationV1().Leases("").Watch(t.Context(), o))
		},
	}
	k.all(row{"create clusterrole first --verb=get --resource=pods", "created"})
	for _, anew := range []func(){k.killAPI, func() { k.stopAgent(); k.restart() }} {
		list, err := core.ConfigMaps("").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		from := metav1.ListOptions{ResourceVersion: list.ResourceVersion}
		for what, watch := range watches {
			if err := watch(from); err != nil {
				t.Errorf("watch of %s from %s: %v", what, list.ResourceVersion, err)
			}
		}
		anew()
		k.eventually("the API answers", func() error {
			_, err := core.ConfigMaps("default").List(t.Context(), metav1.ListOptions{})
			return err
		})
		for what, watch := range watches {
			if err := watch(from); !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
				t.Errorf("watch of %s from before the restart: %v", what, err)
			}
		}
		if err := watches["pods"](metav1.ListOptions{ResourceVersion: "99999999999999999"}); !apierrors.IsResourceExpired(err) {
			t.Errorf("watch from what will be: %v", err)
		}
	}
}

// watched ends a watch that could be begun.
func watched(w interface{ Stop() }, err error) error {
	if err == nil {
		w.Stop()
	}
	return err
}

func TestAFullDiskRefusesWhatIsWritten(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.stopAgent()
	dir := n.path("root", "objects")
	if err := errors.Join(os.MkdirAll(dir, 0o750), syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=512k")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	n.restart()
	k := n.kubectl()
	configMaps := k.clientset().CoreV1().ConfigMaps("default")
	of := func(name string, size int) *v1.ConfigMap {
		return &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"a": strings.Repeat("a", size)}}
	}
	full := func(what string, err error) {
		t.Helper()
		var status apierrors.APIStatus
		if !errors.As(err, &status) || status.Status().Code != http.StatusInsufficientStorage || !strings.Contains(err.Error(), "no space left on device") {
			t.Errorf("%s: %v", what, err)
		}
	}
	small, err := configMaps.Create(t.Context(), of("small", 10), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	made := 0
	for err == nil && made < 20 {
		if _, err = configMaps.Create(t.Context(), of(fmt.Sprintf("large-%d", made), 64<<10), metav1.CreateOptions{}); err == nil {
			made++
		}
	}
	full("one more", err)
	small.Data["a"] = strings.Repeat("b", 200<<10)
	_, err = configMaps.Update(t.Context(), small, metav1.UpdateOptions{})
	full("an edit", err)
	k.write("web.yaml", web("web"))
	k.write("large.yaml", fmt.Sprintf(settings, strings.Repeat("c", 200<<10)))
	k.all(row{"apply --server-side -f large.yaml", `error: Error from server \(InternalError\): configmaps "settings" is not written: .* no space left on device`})
	if err := n.wholeObjects(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.tmp")); len(left) > 0 {
		t.Errorf("what is not written takes room: %q", left)
	}
	list, err := configMaps.List(t.Context(), metav1.ListOptions{})
	for _, m := range list.Items {
		if m.Name == "small" && m.Data["a"] != "aaaaaaaaaa" {
			t.Errorf("what is not written is told of: %d bytes", len(m.Data["a"]))
		}
	}
	if err != nil || len(list.Items) != made+2 { // small, and kube-root-ca.crt
		t.Errorf("there are %d ConfigMaps, %d were made: %v", len(list.Items), made, err)
	}
	k.all(
		row{"delete configmap large-0 large-1 large-2", "deleted"},
		row{"apply --server-side -f large.yaml", "serverside-applied"},
		row{"apply -f web.yaml", "created"},
		row{"wait --for=condition=Ready pod/web", "condition met"},
	)
}

func TestClientsWithoutACertificateLearnNothing(t *testing.T) {
	t.Parallel()
	k := launch(t).kubectl()
	k.all(row{"get pods", ""})
	other := withCertificates(t)
	foreign, err := tls.LoadX509KeyPair(filepath.Join(pkiDir(other), "admin.crt"), filepath.Join(pkiDir(other), "admin.key"))
	if err != nil {
		t.Fatal(err)
	}
	address := strings.TrimPrefix(k.config().Host, "https://")
	for who, config := range map[string]*tls.Config{
		"nobody":                           {InsecureSkipVerify: true},
		"nobody, with TLS 1.2":             {InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12},
		"one with a certificate of others": {InsecureSkipVerify: true, Certificates: []tls.Certificate{foreign}},
	} {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
		for _, path := range []string{"/version", "/healthz", "/api", "/openapi/v3", "/", "/none", "/api/v1/pods"} {
			res, err := client.Get("https://" + address + path)
			if err == nil {
				text, _ := io.ReadAll(res.Body)
				_ = res.Body.Close()
				t.Errorf("%s asks for %s, and learns %s: %s", who, path, res.Status, text)
			}
		}
	}
	res, err := http.Get("http://" + address + "/version")
	if err == nil {
		text, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != http.StatusBadRequest || string(text) != "Client sent an HTTP request to an HTTPS server.\n" {
			t.Errorf("without TLS one learns %s: %s", res.Status, text)
		}
	}
}

func TestRequestsThatAreTooLarge(t *testing.T) {
	t.Parallel()
	k := launch(t).kubectl()
	client := k.clientset().CoreV1().RESTClient()
	text := fmt.Sprintf(`{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "large"}, "data": {"a": %q}}`, strings.Repeat("a", 3<<20))
	for verb, request := range map[string]*rest.Request{
		"POST":   client.Post().SetHeader("Content-Type", "application/json"),
		"PUT":    client.Put().Name("large").SetHeader("Content-Type", "application/json"),
		"PATCH":  client.Patch(types.MergePatchType).Name("large"),
		"apply":  client.Patch(types.ApplyPatchType).Name("large").Param("fieldManager", "test"),
		"DELETE": client.Delete().Name("large").SetHeader("Content-Type", "application/json"),
	} {
		err := request.Namespace("default").Resource("configmaps").Body([]byte(text)).Do(t.Context()).Error()
		if !apierrors.IsRequestEntityTooLargeError(err) {
			t.Errorf("%s: %v", verb, err)
		}
	}
	k.all(row{"get configmap large", "error: not found"})
}
