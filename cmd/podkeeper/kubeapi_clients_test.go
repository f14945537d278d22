package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	configured "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/features"
	featurestesting "k8s.io/client-go/features/testing"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

var podResource = v1.SchemeGroupVersion.WithResource("pods")

// podInformers are of all kinds that client-go has.
func (k *kubectl) podInformers() map[string]cache.SharedIndexInformer {
	k.t.Helper()
	config := k.config()
	protobuf := rest.CopyConfig(config)
	protobuf.ContentType = runtime.ContentTypeProtobuf
	asJSON := rest.CopyConfig(config)
	asJSON.ContentType = runtime.ContentTypeJSON
	typed := func(c *rest.Config) cache.SharedIndexInformer {
		return informers.NewSharedInformerFactory(kubernetes.NewForConfigOrDie(c), 0).Core().V1().Pods().Informer()
	}
	return map[string]cache.SharedIndexInformer{
		"typed, as JSON":  typed(asJSON),
		"typed, protobuf": typed(protobuf),
		"metadata":        metadatainformer.NewSharedInformerFactory(metadata.NewForConfigOrDie(config), 0).ForResource(podResource).Informer(),
		"dynamic":         dynamicinformer.NewDynamicSharedInformerFactory(dynamic.NewForConfigOrDie(config), 0).ForResource(podResource).Informer(),
	}
}

// follow runs informers until the end of the test.
func (k *kubectl) follow() map[string]cache.SharedIndexInformer {
	k.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	k.t.Cleanup(func() { cancel(); running.Wait() })
	all := map[string]cache.SharedIndexInformer{}
	for how, on := range map[string]bool{" by list and watch": false, " by WatchList": true} {
		featurestesting.SetFeatureDuringTest(k.t, features.WatchListClient, on)
		for kind, informer := range k.podInformers() {
			all[kind+how] = informer
			running.Go(func() { informer.RunWithContext(ctx) })
			k.eventually("an informer has begun", func() error {
				if !informer.HasSynced() {
					return errors.New("it has not: " + kind + how)
				}
				return nil
			})
		}
	}
	return all
}

// versions are objects by name, with their UIDs and versions.
func versions(all []any) string {
	var said []string
	for _, o := range all {
		if m, err := meta.Accessor(o); err == nil {
			said = append(said, fmt.Sprint(m.GetName(), " ", m.GetUID(), " ", m.GetResourceVersion()))
		}
	}
	slices.Sort(said)
	return strings.Join(said, "\n")
}

// agree waits until every informer has all Pods as the API tells them, and the API has those of the agent.
func (k *kubectl) agree(all map[string]cache.SharedIndexInformer) {
	k.t.Helper()
	client := k.clientset()
	k.eventually("informers know all Pods", func() error {
		list, err := client.CoreV1().Pods("").List(k.t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		said := map[string]string{}
		var told []any
		for i := range list.Items {
			told = append(told, &list.Items[i])
			said[list.Items[i].Name] = string(list.Items[i].UID) + string(list.Items[i].Status.Phase)
		}
		agent, err := k.client().Pods(k.t.Context())
		if err != nil {
			return err
		}
		has := map[string]string{}
		for _, p := range agent.Items {
			has[p.Name] = string(p.UID) + string(p.Status.Phase)
		}
		if !maps.Equal(has, said) {
			return fmt.Errorf("the agent has %v, the API %v", has, said)
		}
		for kind, informer := range all {
			if got, want := versions(informer.GetStore().List()), versions(told); got != want {
				return fmt.Errorf("%s has\n%s\nwant\n%s", kind, got, want)
			}
		}
		return nil
	})
}

func TestInformersGoOn(t *testing.T) {
	t.Parallel()
	k := launch(t).kubectl()
	for _, name := range []string{"first", "second", "third", "fourth"} {
		k.write(name+".yaml", simple(name, forever))
	}
	k.apply("file.yaml", simple("file", forever))
	k.all(row{"apply -f first.yaml", "created"})
	all := k.follow()
	k.agree(all)
	k.killAPI()
	k.all(
		row{"apply -f second.yaml", "created"},
		row{"delete pod first --now --wait=false", "deleted"},
	)
	k.agree(all)
	k.kill()
	k.remove("file.yaml")
	k.restart()
	k.eventually("the API answers", func() error { _, err := k.run("apply -f third.yaml"); return err })
	k.all(row{"label pod third a=b", "labeled"})
	k.agree(all)
	k.stopAgent()
	k.apply("file.yaml", simple("file", forever, "  hostname: other"))
	k.restart()
	k.eventually("the API answers", func() error { _, err := k.run("get pods"); return err })
	k.killAPI()
	k.all(
		row{"apply -f fourth.yaml", "created"},
		row{"wait --for=condition=Ready pod/fourth pod/third pod/second pod/file", "condition met"},
	)
	k.agree(all)
	k.all(row{"delete pods --all --now", "deleted"})
	k.awaitReady("file") // which is begun again
	k.agree(all)
}

func TestClientsApply(t *testing.T) {
	t.Parallel()
	k := launch(t).kubectl()
	ctx := t.Context()
	configMaps := k.clientset().CoreV1().ConfigMaps("default")
	as := func(manager string, force bool) metav1.ApplyOptions {
		return metav1.ApplyOptions{FieldManager: manager, Force: force}
	}
	wanted := configured.ConfigMap("applied", "default").WithData(map[string]string{"a": "1", "b": "1"})
	if made, err := configMaps.Apply(ctx, wanted, as("one", false)); err != nil || made.Data["a"] != "1" || made.UID == "" {
		t.Fatalf("applied is %v: %v", made, err)
	}
	other := configured.ConfigMap("applied", "default").WithData(map[string]string{"a": "2"})
	if _, err := configMaps.Apply(ctx, other, as("other", false)); !apierrors.IsConflict(err) {
		t.Errorf("what another one manages: %v", err)
	}
	if _, err := configMaps.Apply(ctx, other, as("other", true)); err != nil {
		t.Error(err)
	}
	found, err := configMaps.Apply(ctx, configured.ConfigMap("applied", "default").WithData(map[string]string{"c": "1"}), as("one", false))
	if err != nil || !maps.Equal(found.Data, map[string]string{"a": "2", "c": "1"}) {
		t.Errorf("what is not wanted any more: %v, %v", found.Data, err)
	}
	owned, err := configured.ExtractConfigMap(found, "one")
	if err != nil || !maps.Equal(owned.Data, map[string]string{"c": "1"}) {
		t.Errorf("one manages %v: %v", owned, err)
	}
	pod := configured.Pod("applied", "default").WithSpec(configured.PodSpec().WithTerminationGracePeriodSeconds(1).
		WithContainers(configured.Container().WithName("app").WithImage(image).WithCommand("/bin/sh", "-c", forever)))
	pods := k.clientset().CoreV1().Pods("default")
	first, err := pods.Apply(ctx, pod, as("one", false))
	if err != nil {
		t.Fatal(err)
	}
	k.awaitReady("applied")
	again, err := pods.Apply(ctx, pod.WithLabels(map[string]string{"a": "b"}), as("one", false))
	if err != nil || again.UID != first.UID || again.Labels["a"] != "b" || again.Generation != 1 {
		t.Errorf("applied again: %+v, %v", again, err)
	}
}

func TestTheDynamicClient(t *testing.T) {
	t.Parallel()
	k := launch(t).kubectl()
	ctx := t.Context()
	configMaps := dynamic.NewForConfigOrDie(k.config()).Resource(v1.SchemeGroupVersion.WithResource("configmaps")).Namespace("default")
	of := func(name string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": name, "labels": map[string]any{"of": "test"}}, "data": map[string]any{"a": "1"},
		}}
	}
	made, err := configMaps.Create(ctx, of("one"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := configMaps.Watch(ctx, metav1.ListOptions{ResourceVersion: made.GetResourceVersion(), LabelSelector: "of=test"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	edited := made.DeepCopy()
	err = unstructured.SetNestedField(edited.Object, "2", "data", "a")
	if err == nil {
		_, err = configMaps.Update(ctx, edited, metav1.UpdateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := configMaps.Update(ctx, made, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("an edit of an old version: %v", err)
	}
	if _, err := configMaps.Apply(ctx, "two", of("two"), metav1.ApplyOptions{FieldManager: "test"}); err != nil {
		t.Error(err)
	}
	if err := configMaps.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "of=test"}); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"MODIFIED one", "ADDED two", "DELETED one", "DELETED two"} {
		e := <-w.ResultChan()
		o, ok := e.Object.(*unstructured.Unstructured)
		if !ok || string(e.Type)+" "+o.GetName() != want {
			t.Fatalf("it tells %v %v, want %s", e.Type, e.Object, want)
		}
	}
	if list, err := configMaps.List(ctx, metav1.ListOptions{LabelSelector: "of=test"}); err != nil || len(list.Items) != 0 {
		t.Errorf("there are %v: %v", list, err)
	}
}

func TestLeadersAreElected(t *testing.T) {
	t.Parallel()
	k := launch(t).kubectl()
	begin := func(name string) (leads *atomic.Bool, end func()) {
		leads = &atomic.Bool{}
		client := k.clientset()
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: &resourcelock.LeaseLock{
				LeaseMeta: metav1.ObjectMeta{Namespace: "default", Name: "leader"}, Client: client.CoordinationV1(), LockConfig: resourcelock.ResourceLockConfig{Identity: name},
			},
			LeaseDuration: patience, RenewDeadline: patience / 2, RetryPeriod: 100 * time.Millisecond, ReleaseOnCancel: true,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(context.Context) { leads.Store(true) }, OnStoppedLeading: func() { leads.Store(false) },
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { elector.Run(ctx); close(ended) }()
		end = sync.OnceFunc(func() { cancel(); <-ended })
		t.Cleanup(end)
		return leads, end
	}
	await := func(what string, leads *atomic.Bool) {
		t.Helper()
		k.eventually(what, func() error {
			if !leads.Load() {
				return errors.New("it does not")
			}
			return nil
		})
	}
	first, end := begin("first")
	await("the first one leads", first)
	second, _ := begin("second")
	leases := k.clientset().CoordinationV1().Leases("default")
	for _, anew := range []func(){k.killAPI, func() { k.kill(); k.restart() }} {
		anew()
		var at *metav1.MicroTime
		k.eventually("the lease is renewed", func() error {
			lease, err := leases.Get(t.Context(), "leader", metav1.GetOptions{})
			if err != nil {
				return err
			}
			if at == nil {
				at = lease.Spec.RenewTime
			}
			if !at.Before(lease.Spec.RenewTime) {
				return fmt.Errorf("it is of %v", at)
			}
			return nil
		})
		if !first.Load() || second.Load() {
			t.Error("a restart has made another one lead")
		}
	}
	end()
	await("then the second one leads", second)
}
