package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// prometheus is one that discovers what the API tells, and scrapes nothing of it.
type prometheus struct {
	*kubectl
	url string
}

// prometheus starts one, until the end of the test. One that can discover Pods is made, in a module that requires it, by
// go build -tags remove_all_sd,enable_kubernetes_sd github.com/prometheus/prometheus/cmd/prometheus
func (k *kubectl) prometheus() *prometheus {
	k.t.Helper()
	binary, err := exec.LookPath(cmp.Or(os.Getenv("PODKEEPER_TEST_PROMETHEUS"), "prometheus"))
	if err != nil {
		k.t.Skip("there is no prometheus, and PODKEEPER_TEST_PROMETHEUS names none")
	}
	address := fmt.Sprintf("127.0.0.1:%d", freePort(k.t))
	k.write("prometheus.yml", fmt.Sprintf(`global: {scrape_interval: 1h}
scrape_configs:
- {job_name: pods, kubernetes_sd_configs: [{role: pod, kubeconfig_file: %[1]s}]}
- {job_name: nodes, kubernetes_sd_configs: [{role: node, kubeconfig_file: %[1]s}]}
`, k.path("root", "kubeconfig")))
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, binary, "--config.file", "prometheus.yml", "--storage.tsdb.path", "data", "--web.listen-address", address)
	cmd.Dir = k.dir
	said := &syncBuffer{}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		cancel()
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		if k.t.Failed() {
			k.t.Logf("prometheus says:\n%s", said)
		}
	})
	p := &prometheus{k, "http://" + address + "/api/v1/targets"}
	k.eventually("Prometheus answers", func() error {
		if strings.Contains(said.String(), "field kubernetes_sd_configs not found") {
			k.t.Skip("this prometheus is built without discovery of Kubernetes, as Debian's is")
		}
		_, err := p.targets()
		return err
	})
	return p
}

// targets are what it has discovered: the names of Pods with their addresses and phases, and of nodes.
func (p *prometheus) targets() (map[string]string, error) {
	client := http.Client{Timeout: 10 * time.Second}
	res, err := client.Get(p.url)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var said struct {
		Data struct {
			ActiveTargets []struct {
				DiscoveredLabels map[string]string `json:"discoveredLabels"`
			} `json:"activeTargets"`
		} `json:"data"`
	}
	if err := json.NewDecoder(res.Body).Decode(&said); err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, target := range said.Data.ActiveTargets {
		of := target.DiscoveredLabels
		if node, is := of["__meta_kubernetes_node_name"]; is {
			found["node/"+node] = of["__meta_kubernetes_node_address_InternalIP"]
			continue
		}
		found[of["__meta_kubernetes_pod_name"]] = of["__meta_kubernetes_pod_ip"] + " " + of["__meta_kubernetes_pod_phase"] + " " + of["__meta_kubernetes_pod_ready"]
	}
	return found, nil
}

// finds waits until it has discovered these Pods, which are ready, and the node.
func (p *prometheus) finds(names ...string) {
	p.t.Helper()
	want := map[string]string{}
	for _, name := range names {
		pod := p.awaitReady(name)
		want[name] = pod.Status.PodIP + " Running true"
		want["node/testnode"] = pod.Status.HostIP
	}
	p.eventually("Prometheus discovers them", func() error {
		if got, err := p.targets(); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("it has %v, want %v: %w", got, want, err)
		}
		return nil
	})
}

func TestPrometheusDiscoversPods(t *testing.T) {
	t.Parallel()
	k := launch(t).kubectl()
	p := k.prometheus()
	k.write("web.yaml", web("web"))
	k.apply("file.yaml", simple("file", forever))
	k.all(row{"apply -f web.yaml", "created"})
	p.finds("web", "file")
	k.killAPI()
	k.all(row{"delete pod web --now", "deleted"})
	p.finds("file")
	k.kill()
	k.restart()
	k.apply("other.yaml", simple("other", forever))
	p.finds("file", "other")
}
