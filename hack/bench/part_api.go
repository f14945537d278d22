package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"
)

const (
	apiStarts  = 5 // of podkeeper-api alone
	coldRounds = 3 // of kubectl that has the agent start it
	warmRounds = 4 // of kubectl after each of them
	apiObjects = 1000
	apiWatches = 100
	apiExecs   = 50
	apiIdle    = 20 * time.Second // at most, how long the agent is watched at rest
	// restCycle is how often an agent at rest gives back the memory that it has used meanwhile, and a little.
	restCycle = 35 * time.Second
	// goalUnchanged is what the agent may need with an API that nobody uses, by what it needs without one: nothing but noise.
	goalUnchanged = 1.05
)

// measureAPI measures what the Kubernetes API costs, and what it costs the agent.
func (b *bench) measureAPI(ctx context.Context) {
	var a *api
	b.once(ctx, apiProgram, func(ctx context.Context) (err error) {
		if b.agent.broken != nil {
			return b.agent.broken
		}
		a, err = newAPI(ctx, b.lab)
		return err
	})
	if a == nil {
		return
	}
	b.once(ctx, "agent at rest with an API", func(ctx context.Context) error { return b.measureAPIAtRest(ctx, a) })
	b.agent.flags = a.flags()
	b.once(ctx, "agent with an API", func(context.Context) error { return b.agent.restart(syscall.SIGTERM, b.lab.binary) })
	for _, m := range []struct {
		name string
		do   func(context.Context, *api) error
	}{
		{"start of podkeeper-api", b.measureAPIStart},
		{"kubectl", b.measureKubectl},
		{"Pods made through the API", b.measureAPICreate},
		{"many objects and watches", b.measureAPICrowd},
		{"log through the API", b.measureAPILog},
		{"command through the API", b.measureAPIExec},
	} {
		b.once(ctx, m.name, func(ctx context.Context) error { return errors.Join(b.agent.broken, m.do(ctx, a)) })
	}
	b.agent.flags = nil
	b.once(ctx, "agent without an API", func(context.Context) error { return b.agent.restart(syscall.SIGTERM, b.lab.binary) })
}

// measureAPIAtRest watches a fresh agent without an API, one whose API nobody has used, and one whose API has ended again.
func (b *bench) measureAPIAtRest(ctx context.Context, a *api) error {
	watch := min(b.idle, apiIdle)
	if err := b.agent.restart(syscall.SIGTERM, b.lab.binary); err != nil {
		return err
	}
	without, err := b.agent.rests(ctx, watch)
	if err != nil {
		return err
	}
	b.agent.flags = a.flags()
	if err := b.agent.restart(syscall.SIGTERM, b.lab.binary); err != nil {
		return err
	}
	unused, err := b.agent.rests(ctx, watch)
	if err != nil {
		return err
	}
	if _, err := a.kubectl(ctx, "get", "pods"); err != nil {
		return err
	}
	if err := errors.Join(a.end(ctx), sleep(ctx, restCycle)); err != nil {
		return err
	}
	used, err := b.agent.rests(ctx, watch)
	if err != nil {
		return err
	}
	for _, state := range []struct {
		name string
		calm calm
		goal float64
	}{{"without an API", without, 0}, {"with one never used", unused, goalUnchanged}, {"with one that has ended", used, 0}} {
		name := "agent " + state.name + ": "
		b.report.add(Figure{Part: "api", Name: name + "CPU a minute", Unit: "s", Values: []float64{state.calm.cpu}, Base: "without", BaseValue: without.cpu})
		b.report.add(Figure{Part: "api", Name: name + "resident memory", Unit: "MiB", Values: state.calm.rss,
			Base: "without", BaseValue: median(without.rss), GoalRatio: state.goal})
		b.report.add(Figure{Part: "api", Name: name + "anonymous memory", Unit: "MiB", Values: state.calm.anonymous,
			Base: "without", BaseValue: median(without.anonymous)})
	}
	return nil
}

// measureAPIStart starts podkeeper-api beside the agent's.
func (b *bench) measureAPIStart(ctx context.Context, a *api) error {
	var took []float64
	for range apiStarts {
		answered, err := a.startAlone(ctx)
		if err != nil {
			return err
		}
		took = append(took, ms(answered)...)
	}
	b.report.add(Figure{Part: "api", Name: "podkeeper-api: exec → first answer", Unit: "ms", Values: took})
	return nil
}

// measureKubectl measures kubectl that has podkeeper-api start, and afterwards; its own start is the floor.
func (b *bench) measureKubectl(ctx context.Context, a *api) error {
	pods := b.names(1)
	if _, err := b.agent.run(ctx, pods); err != nil {
		return err
	}
	var cold, warm, floor []float64
	memory := &apiMemory{}
	for range coldRounds {
		took, err := a.kubectl(ctx, "get", "pods")
		if err != nil {
			return err
		}
		cold = append(cold, ms(took)...)
		if err := memory.sample(a); err != nil {
			return err
		}
		for range warmRounds {
			own, err := a.kubectl(ctx, "version", "--client")
			if err != nil {
				return err
			}
			took, err := a.kubectl(ctx, "get", "pods")
			if err != nil {
				return err
			}
			floor, warm = append(floor, ms(own)...), append(warm, ms(took)...)
		}
		if err := a.end(ctx); err != nil {
			return err
		}
	}
	b.report.add(Figure{Part: "api", Name: "floor: kubectl version --client", Unit: "ms", Values: floor})
	b.report.add(Figure{Part: "api", Name: "kubectl get pods, with the API's start", Unit: "ms", Values: cold, Base: "floor", BaseValue: median(floor)})
	b.report.add(Figure{Part: "api", Name: "kubectl get pods, later", Unit: "ms", Values: warm, Base: "floor", BaseValue: median(floor)})
	memory.add(b.report, "after its start")
	_, err := b.agent.remove(ctx, pods)
	return err
}

// apiMemory is what podkeeper-api has used, in MiB.
type apiMemory struct{ rss, pss, anonymous []float64 }

// sample looks at the one that the agent has started.
func (m *apiMemory) sample(a *api) error {
	pid, err := a.pid()
	if err != nil {
		return err
	}
	u, err := useOf(pid)
	if err != nil {
		return err
	}
	m.rss, m.pss, m.anonymous = append(m.rss, u.rss), append(m.pss, u.pss), append(m.anonymous, u.anonymous)
	return nil
}

func (m *apiMemory) add(r *report, when string) {
	r.add(Figure{Part: "api", Name: "podkeeper-api " + when + ": resident memory", Unit: "MiB", Values: m.rss})
	r.add(Figure{Part: "api", Name: "podkeeper-api " + when + ": proportional memory", Unit: "MiB", Values: m.pss})
	r.add(Figure{Part: "api", Name: "podkeeper-api " + when + ": anonymous memory", Unit: "MiB", Values: m.anonymous})
}

// measureAPICreate makes Pods through the API and by files, in turns.
func (b *bench) measureAPICreate(ctx context.Context, a *api) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	var files, made []float64
	b.takeTurns(ctx, b.rounds,
		contender{"Pod made by a file", true, func(ctx context.Context) error {
			up, _, err := b.podkeeperOne(ctx)
			if err == nil {
				files = append(files, ms(up)...)
			}
			return err
		}},
		contender{"Pod made through the API", true, func(ctx context.Context) error {
			up, err := b.apiOne(ctx, client)
			if err == nil {
				made = append(made, ms(up)...)
			}
			return err
		}})
	b.report.add(Figure{Part: "api", Name: "file there → process runs", Unit: "ms", Values: files})
	b.report.add(Figure{Part: "api", Name: "created through the API → process runs", Unit: "ms", Values: made, Base: "file", BaseValue: median(files)})
	return nil
}

// apiOne makes one Pod through the API, and removes it.
func (b *bench) apiOne(ctx context.Context, client *kubernetes.Clientset) (time.Duration, error) {
	var pod v1.Pod
	pods := b.names(1)
	if err := yaml.UnmarshalStrict(b.lab.manifest(pods[0]), &pod); err != nil {
		return 0, fmt.Errorf("read manifest: %w", err)
	}
	begin := time.Now()
	if _, err := client.CoreV1().Pods("default").Create(ctx, &pod, metav1.CreateOptions{}); err != nil {
		return 0, fmt.Errorf("create Pod: %w", err)
	}
	took, err := b.lab.starts.wait(ctx, pods, begin)
	if err != nil {
		return 0, err
	}
	if err := sleep(ctx, settle); err != nil {
		return 0, err
	}
	if err := client.CoreV1().Pods("default").Delete(ctx, pods[0], metav1.DeleteOptions{}); err != nil {
		return 0, fmt.Errorf("delete Pod: %w", err)
	}
	return took[0], b.agent.awaitGone(ctx, pods)
}

// measureAPICrowd measures podkeeper-api with many objects and with watches of them, each on a connection of its own.
func (b *bench) measureAPICrowd(ctx context.Context, a *api) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	maps := client.CoreV1().ConfigMaps("default")
	var several errgroup.Group
	several.SetLimit(8)
	for i := range apiObjects {
		several.Go(func() error {
			object := &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("crowd%d", i), Labels: map[string]string{"crowd": ""}}, Data: map[string]string{"key": "value"}}
			_, err := maps.Create(ctx, object, metav1.CreateOptions{})
			return err
		})
	}
	if err := several.Wait(); err != nil {
		return fmt.Errorf("create objects: %w", err)
	}
	for range apiWatches {
		watcher, err := a.client()
		if err != nil {
			return err
		}
		w, err := watcher.CoreV1().ConfigMaps("default").Watch(ctx, metav1.ListOptions{})
		if err != nil {
			return fmt.Errorf("watch objects: %w", err)
		}
		defer w.Stop()
		for range apiObjects { // each is told of first
			if event, ok := <-w.ResultChan(); !ok {
				return fmt.Errorf("watch objects: it ended after %v", event)
			}
		}
	}
	memory := &apiMemory{}
	for range coldRounds {
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
		if err := memory.sample(a); err != nil {
			return err
		}
	}
	memory.add(b.report, fmt.Sprintf("with %d objects, %d watches", apiObjects, apiWatches))
	if err := maps.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "crowd"}); err != nil {
		return fmt.Errorf("delete objects: %w", err)
	}
	return nil
}

// measureAPILog reads a large log as kubectl does, and from the agent's socket, in turns.
func (b *bench) measureAPILog(ctx context.Context, a *api) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	pod, err := b.runWriter(ctx)
	if err != nil {
		return err
	}
	var direct, through []float64
	for range logRounds {
		begin := time.Now()
		if _, err := b.readLog(ctx, pod); err != nil {
			return err
		}
		direct = append(direct, ms(time.Since(begin))...)
		begin = time.Now()
		log, err := client.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &v1.PodLogOptions{}).Stream(ctx)
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		n, err := io.Copy(io.Discard, log)
		if err = errors.Join(err, log.Close()); err != nil || n < logBytes {
			return fmt.Errorf("read log: %d bytes: %w", n, err)
		}
		through = append(through, ms(time.Since(begin))...)
	}
	b.report.add(Figure{Part: "api", Name: "100 MB of a log, from the agent's socket", Unit: "ms", Values: direct})
	b.report.add(Figure{Part: "api", Name: "100 MB of a log, through the API", Unit: "ms", Values: through, Base: "socket", BaseValue: median(direct), Goal: goalLog})
	_, err = b.agent.remove(ctx, []string{pod.Name})
	return err
}

// measureAPIExec runs commands by containerd's client, the agent's socket and the API, in turns, all in one container.
func (b *bench) measureAPIExec(ctx context.Context, a *api) error {
	pods := b.names(1)
	if _, err := b.agent.run(ctx, pods); err != nil {
		return err
	}
	floor, err := b.agent.bareExec(ctx, pods[0])
	if err != nil {
		return err
	}
	ways := []struct {
		name string
		goal float64
		run  func(context.Context) (time.Duration, error)
		took []float64
	}{
		{"floor: task.Exec in the same container", 0, floor, nil},
		{"command run through the agent's socket", goalExec, overStream(b.agent.viaSocket, pods[0]), nil},
		{"command run through the API (WebSocket)", goalExec, overStream(a.viaWebSocket, pods[0]), nil},
		{"command run through the API (SPDY)", 0, overStream(a.viaSPDY, pods[0]), nil},
	}
	var contenders []contender
	for i := range ways {
		way := &ways[i]
		contenders = append(contenders, contender{way.name, true, func(ctx context.Context) error {
			took, err := way.run(ctx)
			way.took = append(way.took, ms(took)...)
			return err
		}})
	}
	b.takeTurns(ctx, apiExecs, contenders...)
	for _, way := range ways {
		b.report.add(Figure{Part: "api", Name: way.name, Unit: "ms", Values: way.took, Base: "floor", BaseValue: median(ways[0].took), GoalRatio: way.goal})
	}
	_, err = b.agent.remove(ctx, pods)
	return err
}
