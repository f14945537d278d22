// Package agent keeps the wanted Pods running: manifests come in, one worker per Pod looks, plans and acts.
//
//	*.yaml ─▶ manifests ─▶ agent ─▶ one worker per Pod:  look ─▶ plan ─▶ act ─▶ (look again)
//	                        │                              │              ├─ runtime   containerd: image, sandbox, container, exec, logs
//	 exits, probe verdicts, │                              │              ├─ network   netns, CNI, hosts, resolv.conf
//	 timers, edits ─ Wake ──┘                              ▼              ├─ volumes   emptyDir, hostPath, subPath
//	                                                 agent/status         ├─ cgroups   Pod cgroup, limits, oom_score_adj
//	                                               (v1.PodStatus) ─▶ server └─ probes  exec, http, tcp, grpc
//
// A Pod's worker alone starts and stops what belongs to the Pod; everyone else only wakes it, and a wake carries no data.
// A look asks containerd and the kernel, by id. plan.Next decides, without a side effect. Actions run in goroutines of their
// own, at most one a container, and "already done" is success, so that being killed at any instant is a normal way to stop.
// What must survive that, and cannot be seen, stands in one small file a Pod (instance.go), written before it is needed.
//
//	agent.go     the set of workers: manifests, events and adoption of what an earlier agent left
//	worker.go    the loop of one Pod
//	instance.go  what is remembered of a Pod across restarts of the agent
//	look.go      one look at a Pod
//	act.go       what a worker does for each verb of a plan, and what comes of it
//	turns.go     how many sandboxes and containers are made at once
//	node.go      the leaves behind the verbs: runtime, network, volumes, cgroups
//	container.go what a container is made of: environment, mounts, limits
//	probing.go   the probes of a container's present instance
//	events.go    v1.Events, the latest thousand
//	report.go    what server tells
package agent
