package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/google/go-containerregistry/pkg/registry"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/runtime"
	"github.com/podkeeper/podkeeper/runtime/credentials"
	"github.com/podkeeper/podkeeper/runtime/providers"
	"github.com/podkeeper/podkeeper/runtime/pullrecords"
)

// guardedRegistry is a registry that gives what is below private/ to its users only, and that may cut off blobs.
type guardedRegistry struct {
	address string
	inner   http.Handler

	mu    sync.Mutex
	users map[string]string // passwords by name
	asked []string          // method, path, user and range of each request
	limit int               // bytes of a large blob that are sent in one answer; 0 is all
	slow  time.Duration     // between pieces of a large blob
	spoil bool              // large blobs, of which some bytes are changed
	sent  int               // bytes of large blobs
}

// largeBlob is what the settings are for.
const largeBlob = 1 << 20

func newGuardedRegistry(t *testing.T) *guardedRegistry {
	t.Helper()
	g := &guardedRegistry{inner: registry.New(), users: map[string]string{}}
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	g.address = strings.TrimPrefix(server.URL, "http://")
	return g
}

func (g *guardedRegistry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	user, password, _ := req.BasicAuth()
	g.mu.Lock()
	g.asked = append(g.asked, strings.TrimSpace(req.Method+" "+req.URL.Path+" "+user+" "+req.Header.Get("Range")))
	want, known := g.users[user]
	g.mu.Unlock()
	if strings.HasPrefix(req.URL.Path, "/v2/private/") && (!known || want != password) {
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if req.Method != http.MethodGet || !strings.Contains(req.URL.Path, "/blobs/") {
		g.inner.ServeHTTP(w, req)
		return
	}
	whole := httptest.NewRecorder()
	rangeless := req.Clone(req.Context())
	rangeless.Header.Del("Range")
	g.inner.ServeHTTP(whole, rangeless)
	out := w
	if whole.Body.Len() >= largeBlob {
		out = &cutOff{ResponseWriter: w, registry: g}
	}
	http.ServeContent(out, req, "", time.Time{}, bytes.NewReader(whole.Body.Bytes()))
}

// cutOff ends an answer in the middle.
type cutOff struct {
	http.ResponseWriter
	registry *guardedRegistry
	written  int
}

func (c *cutOff) Write(p []byte) (int, error) {
	c.registry.mu.Lock()
	slow, limit, spoil := c.registry.slow, c.registry.limit, c.registry.spoil
	c.registry.mu.Unlock()
	time.Sleep(slow)
	part := p
	if spoil {
		part, limit = bytes.Clone(p), 0
		part[0]++
	}
	if limit > 0 {
		part = p[:min(len(p), limit-c.written)]
	}
	n, err := c.ResponseWriter.Write(part)
	c.written += n
	c.registry.mu.Lock()
	c.registry.sent += n
	c.registry.mu.Unlock()
	if err == nil && len(part) < len(p) {
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// since are the requests after the first n.
func (g *guardedRegistry) since(n int) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.asked[n:])
}

func (g *guardedRegistry) set(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
}

// push pushes the demo image with a layer of a size that no other image has. The registry must have no users yet.
func (g *guardedRegistry) push(t *testing.T, repository string, size int64) string {
	t.Helper()
	g.set(func() { g.users[""] = "" })
	defer g.set(func() { delete(g.users, "") })
	return pushTo(t, g.address+"/"+repository, unlike(t, size))
}

// secret is what a Pod's Secret holds.
func (g *guardedRegistry) secret(name, user, password string) []credentials.Credential {
	return []credentials.Credential{{
		Registry: g.address, Username: user, Password: password,
		Secret: credentials.Secret{Namespace: "default", Name: name, UID: "uid"},
	}}
}

func (n *node) runtimeWith(cfg runtime.Config) *runtime.Runtime {
	n.t.Helper()
	cfg.Endpoint, cfg.Namespace = lab.containerd.Socket(), n.namespace
	r, err := runtime.Open(cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { r.Close() })
	return r
}

// TestAPodCannotUseWhatAnotherHasPulled has Pods with and without a Secret want a private image.
func TestAPodCannotUseWhatAnotherHasPulled(t *testing.T) {
	t.Parallel()
	n := launch(t)
	g := newGuardedRegistry(t)
	private := g.push(t, "private/app:v1", 100)
	g.set(func() { g.users["ann"], g.users["bob"] = "secret-of-ann", "secret-of-bob" })
	ann, bob, wrong := g.secret("ann", "ann", "secret-of-ann"), g.secret("bob", "bob", "secret-of-bob"), g.secret("wrong", "ann", "guess")
	same := g.secret("same", "ann", "secret-of-ann")
	cfg := runtime.Config{RecordsDir: n.path("out", "image_manager")}
	r := n.runtimeWith(cfg)

	step := func(what string, policy v1.PullPolicy, has []credentials.Credential, want error, asks bool) {
		t.Helper()
		before := len(g.since(0))
		done, err := r.EnsureImage(t.Context(), runtime.Request{Image: private, Policy: policy, Credentials: has})
		if !errors.Is(err, want) || want == nil && done.Pulled != asks {
			t.Errorf("%s: %+v, %v", what, done.Pulled, err)
		}
		if asked := len(g.since(before)) > 0; asked != asks {
			t.Errorf("%s: the registry is asked: %v", what, asked)
		}
		if err != nil && strings.Contains(err.Error(), "guess") {
			t.Errorf("%s: it tells a password: %v", what, err)
		}
	}
	step("without a Secret", v1.PullIfNotPresent, nil, runtime.ErrImagePull, true)
	step("with a wrong one", v1.PullIfNotPresent, wrong, runtime.ErrImagePull, true)
	step("with a wrong one and a right one", v1.PullIfNotPresent, slices.Concat(wrong, ann), nil, true)
	step("nobody else, though it is there", v1.PullIfNotPresent, nil, runtime.ErrImagePull, true)
	step("nobody else, and nobody is asked", v1.PullNever, nil, runtime.ErrImageNeverPull, false)
	step("with another right one, never", v1.PullNever, bob, runtime.ErrImageNeverPull, false)
	for range 2 {
		step("with the same", v1.PullIfNotPresent, ann, nil, false)
		step("with the same, never", v1.PullNever, ann, nil, false)
		step("with another that holds the same", v1.PullIfNotPresent, same, nil, false)
		step("with a wrong one once more", v1.PullIfNotPresent, g.secret("other", "ann", "guess"), runtime.ErrImagePull, true)
		r = n.runtimeWith(cfg) // the agent starts anew
	}
	step("with another right one", v1.PullIfNotPresent, bob, nil, true)
	step("which is known then", v1.PullNever, bob, nil, false)
	step("always, without a Secret", v1.PullAlways, nil, runtime.ErrImagePull, true)

	public := g.push(t, "public/app:v1", 100)
	for _, has := range [][]credentials.Credential{wrong, nil} { // an expired password keeps nobody from what is public
		if _, err := r.EnsureImage(t.Context(), runtime.Request{Image: public, Policy: v1.PullIfNotPresent, Credentials: has}); err != nil {
			t.Errorf("what is public: %v", err)
		}
	}
	// What was imported is everybody's, and what is on the disk tells no password.
	n.demo(r)
	files, err := filepath.Glob(n.path("out", "image_manager", "*", "*"))
	if err != nil || len(files) != 2 {
		t.Errorf("there are %q: %v", files, err)
	}
	for _, file := range files {
		if text, err := os.ReadFile(file); err != nil || bytes.Contains(text, []byte("secret-of")) {
			t.Errorf("%s: %s: %v", file, text, err)
		}
	}
}

// TestAPullThatWasKilledOpensNothing has an intent left of an agent that was killed after it had got the image.
func TestAPullThatWasKilledOpensNothing(t *testing.T) {
	t.Parallel()
	n := launch(t)
	g := newGuardedRegistry(t)
	private := g.push(t, "private/app:v1", 100)
	g.set(func() { g.users["ann"] = "secret-of-ann" })
	ann := g.secret("ann", "ann", "secret-of-ann")
	dir := n.path("out", "image_manager")
	killed, err := pullrecords.Open(dir, pullrecords.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	if err := killed.Begin(private); err != nil {
		t.Fatal(err)
	}
	if _, err := n.runtimeWith(runtime.Config{}).EnsureImage(t.Context(), runtime.Request{Image: private, Policy: v1.PullAlways, Credentials: ann}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r := n.runtimeWith(runtime.Config{RecordsDir: dir})
		for range 2 {
			if _, err := r.EnsureImage(t.Context(), runtime.Request{Image: private, Policy: v1.PullIfNotPresent}); !errors.Is(err, runtime.ErrImagePull) {
				t.Errorf("anyone may use it: %v", err)
			}
		}
	}
	r := n.runtimeWith(runtime.Config{RecordsDir: dir})
	for _, pulled := range []bool{true, false} {
		done, err := r.EnsureImage(t.Context(), runtime.Request{Image: private, Policy: v1.PullIfNotPresent, Credentials: ann})
		if err != nil || done.Pulled != pulled {
			t.Errorf("with a right to it: %+v, %v", done.Pulled, err)
		}
	}
}

// TestPullsAreSharedByRight has Pods with and without a Secret want one private image at once.
func TestPullsAreSharedByRight(t *testing.T) {
	t.Parallel()
	n := launch(t)
	g := newGuardedRegistry(t)
	private := g.push(t, "private/app:v1", 4*largeBlob)
	g.set(func() { g.users["ann"], g.users["bob"], g.slow = "a", "b", 10*time.Millisecond })
	r := n.runtimeWith(runtime.Config{})
	var work errgroup.Group
	for range 5 {
		for _, has := range [][]credentials.Credential{g.secret("ann", "ann", "a"), g.secret("bob", "bob", "b"), g.secret("ann2", "ann", "a")} {
			work.Go(func() error {
				_, err := r.EnsureImage(t.Context(), runtime.Request{Image: private, Policy: v1.PullIfNotPresent, Credentials: has})
				return err
			})
		}
		work.Go(func() error {
			_, err := r.EnsureImage(t.Context(), runtime.Request{Image: private, Policy: v1.PullIfNotPresent})
			if !errors.Is(err, runtime.ErrImagePull) {
				return fmt.Errorf("who has no right hears %w", err)
			}
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		t.Fatal(err)
	}
	fetched := map[string]bool{}
	for _, request := range g.since(0) {
		words := strings.Fields(request) // without a user, it was refused
		if len(words) < 3 || words[0] != http.MethodGet || !strings.Contains(words[1], "/blobs/") {
			continue
		}
		if fetched[words[1]] {
			t.Errorf("%s is fetched more than once", words[1])
		}
		fetched[words[1]] = true
	}
	if len(fetched) == 0 {
		t.Error("nothing was fetched")
	}
	for _, user := range []string{"ann", "bob"} {
		if done, err := r.EnsureImage(t.Context(), runtime.Request{Image: private, Policy: v1.PullNever, Credentials: g.secret(user, user, user[:1])}); err != nil || done.Pulled {
			t.Errorf("%s may not use it: %v", user, err)
		}
	}
}

// TestAPullGoesOnWhereItWasCutOff has a registry that sends half of a layer and breaks off.
func TestAPullGoesOnWhereItWasCutOff(t *testing.T) {
	t.Parallel()
	n := launch(t)
	g := newGuardedRegistry(t)
	const size = 8 * largeBlob
	ref := g.push(t, "public/large:v1", size)
	before := len(g.since(0))
	pull := func(told func(int64, int64)) error {
		r := n.runtimeWith(runtime.Config{}) // each time another agent
		_, err := r.EnsureImage(t.Context(), runtime.Request{Image: ref, Policy: v1.PullIfNotPresent, Progress: told})
		return err
	}
	// The registry must be away when it is asked for the rest, which is at once.
	g.set(func() { g.limit = size / 2 })
	inner := g.inner
	g.inner = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		away := false
		g.set(func() { away = g.sent >= size/2 && g.limit > 0 })
		if away {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		inner.ServeHTTP(w, req)
	})
	if err := pull(nil); !errors.Is(err, runtime.ErrImagePull) {
		t.Fatalf("it is cut off, and says %v", err)
	}
	n.collect()
	first, at := 0, len(g.since(before))
	g.set(func() { first, g.sent, g.limit, g.slow = g.sent, 0, 0, 20*time.Millisecond })
	if first < size/2 || first > size*3/4 {
		t.Fatalf("%d bytes were sent", first)
	}
	var figures [][2]int64
	if err := pull(func(done, total int64) { figures = append(figures, [2]int64{done, total}) }); err != nil {
		t.Fatal(err)
	}
	again := g.since(before + at)
	if !slices.ContainsFunc(again, func(request string) bool { return strings.Contains(request, "bytes="+fmt.Sprint(first)+"-") }) {
		t.Errorf("nothing is asked for from byte %d: %q", first, again)
	}
	second := 0
	g.set(func() { second = g.sent })
	if whole := first + second; whole < size || whole > size+size/8 {
		t.Errorf("%d bytes were sent, then %d, of %d", first, second, size)
	}
	if len(figures) == 0 || !slices.IsSortedFunc(figures, func(a, b [2]int64) int { return int(a[0] - b[0]) }) {
		t.Fatalf("the progress is %v", figures)
	}
	if f := figures[0]; f[0] < size/2 || f[1] < size || f[1] > size+largeBlob {
		t.Errorf("it begins with %d of %d bytes", f[0], f[1])
	}
	n.noLease("podkeeper-fetch-")
}

// TestWhatWasSpoiledIsFetchedAnew has a registry send other bytes than it should: they are not what the next try goes on with.
func TestWhatWasSpoiledIsFetchedAnew(t *testing.T) {
	t.Parallel()
	n := launch(t)
	g := newGuardedRegistry(t)
	request := runtime.Request{Image: g.push(t, "public/large:v1", 2*largeBlob), Policy: v1.PullIfNotPresent}
	g.set(func() { g.spoil = true })
	if _, err := n.runtimeWith(runtime.Config{}).EnsureImage(t.Context(), request); !errors.Is(err, runtime.ErrImagePull) {
		t.Fatalf("it is spoiled, and says %v", err)
	}
	g.set(func() { g.spoil = false })
	if _, err := n.runtimeWith(runtime.Config{}).EnsureImage(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	n.noLease("podkeeper-fetch-")
}

// collect has containerd collect its garbage now.
func (n *node) collect() {
	n.t.Helper()
	c, ctx, err := n.ctr()
	if err != nil {
		n.t.Fatal(err)
	}
	defer c.Close()
	lease, err := c.LeasesService().Create(ctx, leases.WithRandomID())
	if err == nil {
		err = c.LeasesService().Delete(ctx, lease, leases.SynchronousDelete)
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

// noLease fails the test where containerd still has a lease whose name begins so.
func (n *node) noLease(prefix string) {
	n.t.Helper()
	c, ctx, err := n.ctr()
	if err != nil {
		n.t.Fatal(err)
	}
	defer c.Close()
	held, err := c.LeasesService().List(ctx)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, lease := range held {
		if strings.HasPrefix(lease.ID, prefix) {
			n.t.Errorf("there is left lease %s", lease.ID)
		}
	}
}

// TestCredentialProvidersOpenRegistries has the node's own credentials open a private registry for all Pods.
func TestCredentialProvidersOpenRegistries(t *testing.T) {
	t.Parallel()
	n := launch(t)
	g := newGuardedRegistry(t)
	private := g.push(t, "private/app:v1", 100)
	g.set(func() { g.users["node"] = "secret" })
	answer := `{"kind": "CredentialProviderResponse", "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "cacheKeyType": "Registry", "auth": {"` +
		g.address + `/private": {"username": "node", "password": "secret"}}}`
	config := "kind: CredentialProviderConfig\napiVersion: kubelet.config.k8s.io/v1\nproviders:\n- {name: cloud, apiVersion: credentialprovider.kubelet.k8s.io/v1, matchImages: ['" +
		g.address + "'], defaultCacheDuration: 1m}\n"
	script, file := n.path("out", "cloud"), n.path("out", "providers.yaml")
	if err := errors.Join(os.WriteFile(script, []byte("#!/bin/sh\necho '"+answer+"'\n"), 0o755), os.WriteFile(file, []byte(config), 0o600)); err != nil {
		t.Fatal(err)
	}
	cloud, err := providers.Open(file, n.path("out"))
	if err != nil {
		t.Fatal(err)
	}
	r := n.runtimeWith(runtime.Config{Providers: cloud})
	for _, policy := range []v1.PullPolicy{v1.PullIfNotPresent, v1.PullNever} {
		if _, err := r.EnsureImage(t.Context(), runtime.Request{Image: private, Policy: policy}); err != nil {
			t.Errorf("%s: %v", policy, err)
		}
	}
	n.stopAgent()
	n.flags = []string{"--image-credential-provider-config", file, "--image-credential-provider-bin-dir", n.path("out")}
	n.restart()
	second := g.push(t, "private/second:v1", 100)
	n.apply("private.yaml", strings.Replace(simple("private", forever), "image: "+image, "image: "+second, 1))
	n.awaitReady("private")
	if files, _ := filepath.Glob(n.path("root", "image_manager", "pulled", "*")); len(files) != 1 {
		t.Errorf("there are records %q", files)
	}
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho no luck today >&2; exit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if cloud, err = providers.Open(file, n.path("out")); err != nil {
		t.Fatal(err)
	}
	_, err = n.runtimeWith(runtime.Config{Providers: cloud}).EnsureImage(t.Context(), runtime.Request{Image: private, Policy: v1.PullAlways})
	if !errors.Is(err, runtime.ErrImagePull) || !strings.Contains(err.Error(), `credential provider "cloud": exit status 1: no luck today`) {
		t.Errorf("a provider that fails: %v", err)
	}
}

// TestImageVolumes mounts an image, again after crashes in between, and another one in its place.
func TestImageVolumes(t *testing.T) {
	t.Parallel()
	n := launch(t)
	r, ctx := n.runtime(), t.Context()
	demo, other := n.demo(r), n.other(r)
	key, dir := runtime.VolumeKey("uid", "files"), n.path("out", "volume")
	labels := map[string]string{"io.kubernetes.pod.uid": "uid"}
	mounted := func(image runtime.Image) {
		t.Helper()
		if err := r.MountImage(ctx, image, runtime.ImageVolume{Key: key, Dir: dir, Labels: labels}); err != nil {
			t.Fatal(err)
		}
		n.collect()
		if _, err := os.Stat(filepath.Join(dir, "bin", "sh")); err != nil {
			t.Errorf("its files are not there: %v", err)
		}
		if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Errorf("it can be written: %v", err)
		}
		left, err := r.ListImageVolumes(ctx)
		if err != nil || len(left) != 1 || left[0].Key != key || left[0].Dir != dir || left[0].Labels["io.kubernetes.pod.uid"] != "uid" {
			t.Errorf("there are %+v: %v", left, err)
		}
		if layers, err := r.ListSnapshots(ctx); err != nil || len(layers) > 0 {
			t.Errorf("it is taken for a container's layer: %v, %v", layers, err)
		}
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if count := bytes.Count(mounts, []byte(" "+dir+" ")); err != nil || count != 1 {
			t.Errorf("there are %d mounts: %v", count, err)
		}
	}
	unmount := func() {
		t.Helper()
		if err := r.UnmountImage(ctx, key, dir); err != nil {
			t.Fatal(err)
		}
		left, err := r.ListImageVolumes(ctx)
		mounts, mountsErr := os.ReadFile("/proc/self/mountinfo")
		if len(left) > 0 || err != nil || mountsErr != nil || bytes.Contains(mounts, []byte(" "+dir+" ")) {
			t.Errorf("there are left %v: %v, %v", left, err, mountsErr)
		}
	}
	mounted(demo)
	mounted(demo)
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil { // as after a reboot
		t.Fatal(err)
	}
	mounted(demo)
	mounted(other)
	mounted(demo)
	unmount()
	unmount() // what is gone is gone
	mounted(other)
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil { // killed between the two halves of unmounting
		t.Fatal(err)
	}
	unmount()
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("the folder is gone: %v", err)
	}
	if err := errors.Join(os.Remove(dir), r.UnmountImage(context.WithoutCancel(ctx), key, dir)); err != nil {
		t.Errorf("without the folder: %v", err)
	}
}
