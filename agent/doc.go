// Package agent keeps the wanted Pods running: wishes come in, one worker per Pod looks, plans and acts.
//
//	*.yaml ─▶ manifests ─▶ sources ─▶ roster ─▶ one worker per Pod:  look ─▶ note ─▶ tend ─▶ plan ─▶ act ─▶ (look again)
//	                                    │ ▲                          │                              └─ agent/node ─┬─ runtime   containerd: images, containers, exec, logs
//	 exits, probe verdicts, timers ─ Wake │                          ▼                                              ├─ sandbox   the pause process
//	                                      │                          │                                              ├─ network   netns, CNI
//	                                      │                   agent/status ─▶ server                                ├─ volumes   emptyDir …
//	              rulings (admitted, held, evicted)          (v1.PodStatus)                                         └─ cgroups   limits, usage
//
// A Pod's worker alone starts and stops what belongs to the Pod; everyone else only wakes it, and a wake carries no data.
// A look asks containerd and the kernel, by id, and changes nothing; what it cannot tell in time is Unknown, and delays
// nobody. plan.Next decides, without a side effect. Deeds run in goroutines of their own, one a lane (a container, the
// sandbox, a sweep), and "already done" is success, so that being killed at any instant is a normal way to stop. What must
// survive that, and cannot be seen, stands in one small file a Pod (instance.go), on disk before it is needed: nothing
// starts that is not recorded. Where that file is lost, the instance is rebuilt from the labels of what containerd has.
//
//	agent.go     Run: sources in, notices of the runtime, and who is woken by them
//	sources.go   what each source wants, and what was ruled about it
//	fits.go      whether a Pod may begin on this node
//	beside.go    whether it may begin beside those that are there
//	queue.go     who is given room on it first
//	preempt.go   who makes room for others
//	classes.go   what follows from the classes that a Pod names, and from LimitRanges
//	quota.go     what is used of ResourceQuotas
//	judge.go     what an API may make beside what there is
//	objects.go   objects that are made through an API
//	keep.go      what of them is kept as it was written
//	namespaces.go  the namespaces that an API has
//	heartbeat.go what is told of the node itself
//	claims.go    what is told of claims and volumes
//	services.go  addresses of Services, and what follows from their Pods
//	tokens.go    tokens of service accounts, for an API
//	feed.go      all objects, and every change of them, for who follows
//	wish.go      what a worker is given, and what a difference between two versions of a Pod means
//	roster.go    the workers, whose container an id is, claims of UIDs, host ports and places
//	adopt.go     what earlier agents have left: records, what containerd knows, strays
//	housekeep.go the search for what belongs to no Pod, from time to time
//	images.go    images that nobody needs
//	drain.go     the end of all Pods for maintenance
//	shutdown.go  the end of all Pods because the host shuts down
//	eviction.go  Pods that have to go because they, or the node, have run out of something
//	pressure.go  how the node tells that it has run out of something, and what is removed before Pods are
//	ended.go     Pods of an API that have ended, when there are too many
//	worker.go    the loop of one Pod
//	instance.go  what is remembered of a Pod across restarts of the agent
//	look.go      one look at a Pod, what of it is recorded, and what plan gets to see
//	tend.go      the carriers of output and the probes of the containers that run
//	deeds.go     one deed a verb: what is recorded before, what is done, what comes of it
//	resize.go    other resources for what runs
//	refresh.go   files in volumes, which follow the Pod and the objects that it refers to
//	deadline.go  the end of Pods that were active for too long
//	hooks.go     postStart and preStop
//	oom.go       deaths for want of memory
//	backoff.go   how long the restarts of a Pod's containers may have to wait
//	turns.go     how many Pods start something at once
//	requests.go  what others ask of a worker
//	podstatus.go conditions that others set, such as those of readiness gates
//	ephemeral.go ephemeral containers, added to a Pod that runs
//	logs.go      which log is meant
//	streams.go   who may talk to which container
//	publish.go   what is reported of a Pod
//	tracing.go   spans of the start of a Pod, where somebody wants them
//	metrics.go   what is counted
//	alive.go     whether all loops without which no Pod is kept go round
//	debug.go     decisions, as they are logged for who looks for a defect
//	events.go    v1.Events, a share of them a Pod
//	clientevents.go those that clients of an API make
//	report.go    what server tells
package agent
