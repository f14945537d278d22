package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// mostMemory is what neither the agent nor its API may need, in bytes, whatever is asked of them here.
const mostMemory = 400 << 20

var memoryOf = regexp.MustCompile(`(?m)^(VmRSS|RssAnon):\s+(\d+) kB$`)

// memory is what a process has, and what of it is its own, in bytes.
func memory(t *testing.T, pid int) (all, own int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range memoryOf.FindAllStringSubmatch(string(status), -1) {
		n, _ := strconv.Atoi(m[2])
		if n <<= 10; m[1] == "VmRSS" {
			all = n
		} else {
			own = n
		}
	}
	return all, own
}

// remembers logs what the agent and its API need by now, and checks that this is not too much.
func (k *kubectl) remembers(when string) {
	k.t.Helper()
	for _, of := range []struct {
		who string
		pid int
	}{{"the agent", k.agent.Process.Pid}, {"the API", k.apiPID()}} {
		all, own := memory(k.t, of.pid)
		k.t.Logf("%s: %s has %d MiB, %d of its own", when, of.who, all>>20, own>>20)
		if all > mostMemory {
			k.t.Errorf("%s: %s has %d MiB", when, of.who, all>>20)
		}
	}
}

// TestManyWatchLittleIsRemembered has 1000 objects, 1000 watches over few connections, 100 followers of a log, and readers that read
// nothing.
func TestManyWatchLittleIsRemembered(t *testing.T) {
	t.Parallel()
	k := launch(t).kubectl()
	k.write("web.yaml", simple("web", "while true; do echo a line of some length for those who follow; sleep 0.01; done"))
	k.all(
		row{"apply -f web.yaml", "created"},
		row{"wait --for=condition=Ready pod/web", "condition met"},
	)
	client := k.clientset()
	k.remembers("at the beginning")
	k.makeMany(client, 1000)
	k.remembers("with 1000 objects")
	ended := k.watchMany(client)
	ended()
	ended = k.followMany(client, 100)
	ended()
	for _, path := range []string{"configmaps?watch=1", "pods/web/log?follow=true", "configmaps"} {
		for range 10 {
			k.askAndReadNothing(path)
		}
	}
	for i := range 200 {
		k.edit(client, i%20, strings.Repeat(strconv.Itoa(i%10), 20<<10))
	}
	k.all(row{"get configmap many-0", "many-0"})
	k.remembers("with 30 readers that read nothing, after 200 edits of 20 KiB")
}

// watchMany has 1000 watches tell of 20 edits.
func (k *kubectl) watchMany(client *kubernetes.Clientset) (end func()) {
	k.t.Helper()
	ctx, cancel := context.WithCancel(k.t.Context())
	var told atomic.Int64
	var watching sync.WaitGroup
	for range 4 { // connections
		c := k.clientset()
		for range 250 {
			w, err := c.CoreV1().ConfigMaps("").Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=many-0"})
			if err != nil {
				k.t.Fatal(err)
			}
			watching.Go(func() {
				for e := range w.ResultChan() {
					if o, ok := e.Object.(*v1.ConfigMap); ok && strings.HasPrefix(o.Data["a"], "edit") {
						told.Add(1)
					}
				}
			})
		}
	}
	begun := time.Now()
	for i := range 20 {
		k.edit(client, 0, fmt.Sprintf("edit %d", i))
	}
	k.eventually("each watch tells of each edit", func() error {
		if n := told.Load(); n != 20*1000 {
			return fmt.Errorf("%d were told", n)
		}
		return nil
	})
	k.t.Logf("20 edits are told to 1000 watches in %v", time.Since(begun))
	k.remembers("with 1000 watches")
	return func() { cancel(); watching.Wait() }
}

// followMany has a log followed.
func (k *kubectl) followMany(client *kubernetes.Clientset, n int) (end func()) {
	k.t.Helper()
	ctx, cancel := context.WithCancel(k.t.Context())
	var followed atomic.Int64
	var following sync.WaitGroup
	for range n {
		logs, err := client.CoreV1().Pods("default").GetLogs("web", &v1.PodLogOptions{Follow: true}).Stream(ctx)
		if err != nil {
			k.t.Fatal(err)
		}
		following.Go(func() {
			defer logs.Close()
			if _, err := io.ReadFull(logs, make([]byte, 1)); err == nil {
				followed.Add(1)
			}
			_, _ = io.Copy(io.Discard, logs)
		})
	}
	k.eventually("all follow the log", func() error {
		if got := followed.Load(); got != int64(n) {
			return fmt.Errorf("%d do", got)
		}
		return nil
	})
	k.remembers("with 100 followers of a log")
	return func() { cancel(); following.Wait() }
}

// makeMany makes ConfigMaps, several at a time.
func (k *kubectl) makeMany(client *kubernetes.Clientset, n int) {
	k.t.Helper()
	next := make(chan int)
	var making sync.WaitGroup
	for range 8 {
		making.Go(func() {
			for i := range next {
				o := &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("many-%d", i), Labels: map[string]string{"many": "yes"}}, Data: map[string]string{"a": "1"}}
				if _, err := client.CoreV1().ConfigMaps("default").Create(k.t.Context(), o, metav1.CreateOptions{}); err != nil {
					k.t.Error(err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	making.Wait()
}

func (k *kubectl) edit(client *kubernetes.Clientset, i int, value string) {
	k.t.Helper()
	o := &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("many-%d", i), Labels: map[string]string{"many": "yes"}}, Data: map[string]string{"a": value}}
	if _, err := client.CoreV1().ConfigMaps("default").Update(k.t.Context(), o, metav1.UpdateOptions{}); err != nil {
		k.t.Error(err)
	}
}

// askAndReadNothing asks for a path of the namespace default, and reads nothing of the answer until the end of the test.
func (k *kubectl) askAndReadNothing(path string) {
	k.t.Helper()
	config := k.config()
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		k.t.Fatal(err)
	}
	address := strings.TrimPrefix(config.Host, "https://")
	tlsConfig.NextProtos, tlsConfig.ServerName = []string{"http/1.1"}, strings.TrimSuffix(address, ":7443")
	raw, err := net.Dial("tcp", address)
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { _ = raw.Close() })
	conn := tls.Client(raw, tlsConfig)
	if err := errors.Join(raw.(*net.TCPConn).SetReadBuffer(4<<10), conn.Handshake()); err != nil {
		k.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "GET /api/v1/namespaces/default/%s HTTP/1.1\r\nHost: %s\r\n\r\n", path, address); err != nil {
		k.t.Fatal(err)
	}
}
