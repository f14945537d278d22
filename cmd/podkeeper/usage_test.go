package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/podkeeper/podkeeper/server"
)

// TestUsageIsTold asks what a container uses that keeps a CPU busy and holds 50 MiB, and its neighbour that does nothing.
func TestUsageIsTold(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("busy.yaml", simple("busy", "echo begin; head -c 52428800 /dev/zero > /dev/shm/held; while :; do :; done")+
		fmt.Sprintf("  - {name: idle, image: %s, command: [sleep, \"1000\"]}\n", image))
	busy := n.awaitReady("busy")
	ask := func(only bool) (*server.Summary, map[string]stats.ContainerStats, error) {
		s, err := n.client().Stats(context.Background(), only)
		if err != nil {
			return nil, nil, stop(err)
		}
		containers := map[string]stats.ContainerStats{}
		if len(s.Pods) != 1 || s.Pods[0].PodRef.UID != string(busy.UID) || len(s.Pods[0].Containers) != 2 {
			return nil, nil, fmt.Errorf("it is of %+v", s.Pods)
		}
		for _, c := range s.Pods[0].Containers {
			containers[c.Name] = c
		}
		return s, containers, nil
	}
	n.eventually("usage is told", func() error {
		s, c, err := ask(true)
		if err != nil {
			return err
		}
		app, idle, pod := c["app"], c["idle"], s.Pods[0]
		for what, u := range map[string]stats.ContainerStats{"app": app, "the Pod": {CPU: pod.CPU, Memory: pod.Memory}, "the node": {CPU: s.Node.CPU, Memory: s.Node.Memory}} {
			if *u.CPU.UsageNanoCores < 250e6 || *u.Memory.WorkingSetBytes < 50<<20 { // others use the machine, too
				return fmt.Errorf("%s uses %d nanocores and %d bytes", what, *u.CPU.UsageNanoCores, *u.Memory.WorkingSetBytes)
			}
		}
		if *app.Memory.WorkingSetBytes > 80<<20 || *idle.Memory.WorkingSetBytes > 20<<20 || *idle.CPU.UsageNanoCores > 100e6 {
			return fmt.Errorf("app uses %d bytes, idle %d and %d nanocores", *app.Memory.WorkingSetBytes, *idle.Memory.WorkingSetBytes, *idle.CPU.UsageNanoCores)
		}
		if s.Window.Duration < 500*time.Millisecond || pod.Network != nil || s.Node.Fs != nil {
			return stop(errors.New("it has no window, or more than was asked for"))
		}
		return nil
	})
	s, c, err := ask(false)
	if err != nil {
		t.Fatal(err)
	}
	pod := s.Pods[0]
	if pod.Network == nil || pod.Network.Name != "eth0" || s.Node.Fs == nil || *s.Node.Fs.CapacityBytes == 0 || c["app"].Logs == nil || *c["app"].Logs.UsedBytes == 0 {
		t.Errorf("of networks and disks: %+v, %+v, %+v", pod.Network, s.Node.Fs, c["app"].Logs)
	}
	n.eventually("usage is told as series", func() error {
		text, err := n.answer("/metrics/resource")
		if err != nil {
			return err
		}
		for _, series := range []string{
			"node_cpu_usage_seconds_total ", "node_memory_working_set_bytes ", `pod_cpu_usage_seconds_total{namespace="default",pod="busy"} `,
			`pod_memory_working_set_bytes{namespace="default",pod="busy"} `, `container_cpu_usage_seconds_total{container="app",namespace="default",pod="busy"} `,
			`container_memory_working_set_bytes{container="idle",namespace="default",pod="busy"} `,
			`container_start_time_seconds{container="app",namespace="default",pod="busy"} `, "resource_scrape_error 0",
		} {
			if !strings.Contains(text, "\n"+series) {
				return fmt.Errorf("%s is not in %s", series, text)
			}
		}
		return nil
	})
	text, err := n.answer("/metrics/cadvisor")
	if err != nil {
		t.Fatal(err)
	}
	group, scope := "/pkt[^\"]*/pod"+string(busy.UID), "/[0-9a-f]{64}"
	if n.systemd() {
		group, scope = "/pkt[^\"]*-pod"+strings.ReplaceAll(string(busy.UID), "-", "_")+`\.slice`, `/cri-containerd-[0-9a-f]{64}\.scope`
	}
	all := []string{
		`container_cpu_usage_seconds_total\{container="app",cpu="total",id="` + group + scope + `",image="podkeeper.local/demo:v1",name="[0-9a-f]{64}",namespace="default",pod="busy"\} [0-9.e+]+ [0-9]{13}`,
		`container_memory_working_set_bytes\{container="",id="` + group + `",image="",name="",namespace="default",pod="busy"\} `,
		`container_network_receive_bytes_total\{container="",id="[^"]*",image="",interface="eth0",name="",namespace="default",pod="busy"\} `,
		`container_cpu_cfs_periods_total\{container="app",`, `container_processes\{container="idle",.*\} 1 `, `container_threads\{container="idle",.*\} 1 `,
		`container_spec_cpu_period\{container="app",.*\} 100000`, `container_cpu_usage_seconds_total\{container="",cpu="total",id="/",`, "machine_cpu_cores ", "container_scrape_error 0",
	}
	if _, err := os.ReadFile("/proc/pressure/cpu"); err == nil && unified() {
		all = append(all, `container_pressure_cpu_waiting_seconds_total\{container="app",`, `container_pressure_memory_stalled_seconds_total\{container="",`)
	}
	for _, series := range all {
		if !regexp.MustCompile("(?m)^" + series).MatchString(text) {
			t.Errorf("%s is not in %s", series, text)
		}
	}
	if app := c["app"]; s.Node.NodeName == "" || !s.Node.StartTime.Before(&pod.StartTime) || app.StartTime.Before(&pod.StartTime) {
		t.Errorf("%s began at %v, the Pod at %v, its container at %v", s.Node.NodeName, s.Node.StartTime, pod.StartTime, app.StartTime)
	}
}

// answer is what the socket answers.
func (n *node) answer(path string) (string, error) {
	transport := n.client().Transport()
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport}).Get("http://podkeeper" + path)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}
