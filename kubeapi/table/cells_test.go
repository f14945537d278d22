package table

import (
	"fmt"
	"strings"
	"testing"
)

// row is a case of TestCells: what stands in the row of an object, cells between bars.
type row struct{ resource, object, want string }

func TestCells(t *testing.T) {
	for _, rows := range []map[string]row{plainRows(), nodeRows(), eventRows(), volumeRows(), serviceRows(), policyRows()} {
		for name, test := range rows {
			t.Run(name, func(t *testing.T) {
				table := convert(t, test.resource, object(t, test.object), nil)
				if len(table.Rows) != 1 || len(table.Rows[0].Cells) != len(table.ColumnDefinitions) {
					t.Fatalf("%d columns, and rows %v", len(table.ColumnDefinitions), table.Rows)
				}
				var cells []string
				for _, c := range table.Rows[0].Cells {
					cells = append(cells, fmt.Sprint(c))
				}
				if got := strings.Join(cells, "|"); got != test.want {
					t.Errorf("\n got %s\nwant %s", got, test.want)
				}
			})
		}
	}
}

// Metadata of an object that is two hours old.
const old = `metadata: {name: x, creationTimestamp: "2026-05-01T10:00:00Z"}`

func plainRows() map[string]row {
	return map[string]row{
		"a Pod": {"pods", `{apiVersion: v1, kind: Pod, ` + old + `, spec: {nodeName: here, containers: [{name: a}]}, status: {phase: Running,
			podIPs: [{ip: 10.0.0.1}, {ip: fd00::1}], containerStatuses: [{name: a, ready: true, restartCount: 2, state: {running: {}},
			lastState: {terminated: {exitCode: 1, finishedAt: "2026-05-01T11:59:30Z"}}}]}}`,
			"x|1/1|Running|2 (30s ago)|120m|10.0.0.1|here|<none>|<none>"},
		"an object of no known age": {"serviceaccounts", `{apiVersion: v1, kind: ServiceAccount, metadata: {name: x}}`, "x|<unknown>"},
		"a Namespace":               {"namespaces", `{apiVersion: v1, kind: Namespace, ` + old + `, status: {phase: Terminating}}`, "x|Terminating|120m"},
		"a Secret":                  {"secrets", `{apiVersion: v1, kind: Secret, ` + old + `, type: Opaque, data: {a: "", b: ""}}`, "x|Opaque|2|120m"},
		"a LimitRange, which has no columns of its own": {"limitranges", `{apiVersion: v1, kind: LimitRange, ` + old + `}`, "x|2026-05-01T10:00:00Z"},
		"a Lease":           {"leases.coordination.k8s.io", `{apiVersion: coordination.k8s.io/v1, kind: Lease, ` + old + `, spec: {holderIdentity: me}}`, "x|me|120m"},
		"a Lease of nobody": {"leases.coordination.k8s.io", `{apiVersion: coordination.k8s.io/v1, kind: Lease, ` + old + `}`, "x||120m"},
		"a RuntimeClass":    {"runtimeclasses.node.k8s.io", `{apiVersion: node.k8s.io/v1, kind: RuntimeClass, ` + old + `, handler: crun}`, "x|crun|120m"},
		"usage of a Pod, summed up over its containers": {"pods.metrics.k8s.io", `{apiVersion: metrics.k8s.io/v1beta1, kind: PodMetrics, metadata: {name: x},
			window: 15s, containers: [{name: a, usage: {cpu: 1500u, memory: 1Mi}}, {name: b, usage: {cpu: 500u, memory: 512Ki}}]}`, "x|2m|1536Ki|15s"},
		"usage of a Pod without containers": {"pods.metrics.k8s.io", `{apiVersion: metrics.k8s.io/v1beta1, kind: PodMetrics, metadata: {name: x}, window: 1m0s}`, "x|0|0|1m0s"},
		"usage of a Node": {"nodes.metrics.k8s.io", `{apiVersion: metrics.k8s.io/v1beta1, kind: NodeMetrics, metadata: {name: x}, window: 15s, usage: {cpu: 123456789n, memory: 2Gi}}`,
			"x|123456789n|2Gi|15s"},
	}
}

func nodeRows() map[string]row {
	node := func(rest string) string { return `{apiVersion: v1, kind: Node, ` + rest + `}` }
	const nothing = "<none>|<none>|<unknown>|<unknown>|<unknown>"
	return map[string]row{
		"a Node of which nothing is known": {"nodes", node(`metadata: {name: x}`), "x|Unknown|<none>|<unknown>||" + nothing},
		"a Node that is ready, with all that is told of it": {"nodes", node(old + `, status: {conditions: [{type: MemoryPressure, status: "True"}, {type: Ready, status: "True"}],
			addresses: [{type: Hostname, address: x}, {type: InternalIP, address: 10.1.1.1}, {type: InternalIP, address: 10.1.1.2}, {type: ExternalIP, address: 1.2.3.4}],
			nodeInfo: {kubeletVersion: v1.37.2, osImage: Debian, kernelVersion: "6.1", architecture: amd64, containerRuntimeVersion: containerd://2.4.2}}`),
			"x|Ready|<none>|120m|v1.37.2|10.1.1.1|1.2.3.4|Debian|6.1 (amd64)|containerd://2.4.2"},
		"a Node that is not ready": {"nodes", node(old + `, status: {conditions: [{type: Ready, status: "False"}]}`), "x|NotReady|<none>|120m||" + nothing},
		"a Node that may be ready": {"nodes", node(old + `, status: {conditions: [{type: Ready, status: "Unknown"}]}`), "x|NotReady|<none>|120m||" + nothing},
		"a Node that is cordoned": {"nodes", node(old + `, spec: {unschedulable: true}, status: {conditions: [{type: Ready, status: "True"}]}`),
			"x|Ready,SchedulingDisabled|<none>|120m||" + nothing},
		"roles of a Node, in order and once": {"nodes", node(`metadata: {name: x, labels: {node-role.kubernetes.io/worker: "", node-role.kubernetes.io/control-plane: "",
			node-role.kubernetes.io/: "", kubernetes.io/role: worker, other: label}}`), "x|Unknown|control-plane,worker|<unknown>||" + nothing},
		"an architecture without a kernel": {"nodes", node(`metadata: {name: x}, status: {nodeInfo: {architecture: arm64}}`),
			"x|Unknown|<none>|<unknown>||<none>|<none>|<unknown>|<unknown> (arm64)|<unknown>"},
	}
}

func eventRows() map[string]row {
	event := func(rest string) string {
		return `{apiVersion: v1, kind: Event, metadata: {name: x}, type: Normal, reason: Pulled, ` + rest + `}`
	}
	return map[string]row{
		"an Event that counts": {"events", event(`involvedObject: {kind: Pod, name: web, fieldPath: "spec.containers{a}"}, message: " text\n", count: 3,
			source: {component: podkeeper, host: here}, firstTimestamp: "2026-05-01T11:00:00Z", lastTimestamp: "2026-05-01T11:59:50Z"`),
			"10s|Normal|Pulled|pod/web|spec.containers{a}|podkeeper, here|text|60m|3|x"},
		"an Event that counts once": {"events", event(`involvedObject: {kind: Pod, name: web}, firstTimestamp: "2026-05-01T11:00:00Z"`), "60m|Normal|Pulled|pod/web||||60m|1|x"},
		"an Event about a kind":     {"events", event(`involvedObject: {kind: Node}, eventTime: "2026-05-01T11:50:00.000000Z"`), "10m|Normal|Pulled|node||||10m|1|x"},
		"a newer Event, told by its reporter": {"events", event(`involvedObject: {kind: Pod, name: web}, eventTime: "2026-05-01T11:50:00.000000Z",
			reportingComponent: scheduler, reportingInstance: here`), "10m|Normal|Pulled|pod/web||scheduler, here||10m|1|x"},
		"a series of Events": {"events", event(`involvedObject: {kind: Pod, name: web}, eventTime: "2026-05-01T11:50:00.000000Z",
			series: {count: 7, lastObservedTime: "2026-05-01T11:59:00.000000Z"}`), "60s|Normal|Pulled|pod/web||||10m|7|x"},
		"an Event without a time": {"events", event(`involvedObject: {kind: Pod, name: web}, source: {component: podkeeper}`),
			"<unknown>|Normal|Pulled|pod/web||podkeeper||<unknown>|1|x"},
		"an Event of events.k8s.io": {"events.events.k8s.io", `{apiVersion: events.k8s.io/v1, kind: Event, metadata: {name: x}, type: Warning, reason: Failed, note: text,
			regarding: {kind: Pod, name: web, fieldPath: "spec.containers{a}"}, eventTime: "2026-05-01T11:50:00.000000Z", reportingController: podkeeper,
			reportingInstance: here, series: {count: 2, lastObservedTime: "2026-05-01T11:59:00.000000Z"}}`,
			"60s|Warning|Failed|pod/web|spec.containers{a}|podkeeper, here|text|10m|2|x"},
		"an older Event of events.k8s.io": {"events.events.k8s.io", `{apiVersion: events.k8s.io/v1, kind: Event, metadata: {name: x}, type: Normal, reason: Pulled, note: text,
			regarding: {kind: Pod, name: web}, deprecatedCount: 4, deprecatedSource: {component: podkeeper}, deprecatedFirstTimestamp: "2026-05-01T11:00:00Z",
			deprecatedLastTimestamp: "2026-05-01T11:59:50Z"}`, "10s|Normal|Pulled|pod/web||podkeeper|text|60m|4|x"},
	}
}

func volumeRows() map[string]row {
	volume := func(rest string) string { return `{apiVersion: v1, kind: PersistentVolume, ` + rest + `}` }
	claim := func(rest string) string { return `{apiVersion: v1, kind: PersistentVolumeClaim, ` + rest + `}` }
	return map[string]row{
		"a PersistentVolume that is bound": {"persistentvolumes", volume(old + `, spec: {capacity: {storage: 10Gi}, accessModes: [ReadWriteMany, ReadWriteOnce, ReadWriteOnce],
			persistentVolumeReclaimPolicy: Retain, claimRef: {namespace: default, name: data}, storageClassName: fast, volumeMode: Filesystem,
			volumeAttributesClassName: gold}, status: {phase: Bound, reason: why}`),
			"x|10Gi|RWO,RWX|Retain|Bound|default/data|fast|gold|why|120m|Filesystem"},
		"a PersistentVolume with nothing": {"persistentvolumes", volume(`metadata: {name: x}`), "x|0||||||<unset>||<unknown>|<unset>"},
		"a PersistentVolume that goes": {"persistentvolumes", volume(`metadata: {name: x, deletionTimestamp: "2026-05-01T11:00:00Z"}, status: {phase: Bound}`),
			"x|0|||Terminating|||<unset>||<unknown>|<unset>"},
		"a claim that is bound shows what it got": {"persistentvolumeclaims", claim(old + `, spec: {volumeName: pv, storageClassName: fast, volumeMode: Block,
			accessModes: [ReadWriteMany], resources: {requests: {storage: 1Gi}}}, status: {phase: Bound, capacity: {storage: 10Gi}, accessModes: [ReadWriteOnce]}`),
			"x|Bound|pv|10Gi|RWO|fast|<unset>|120m|Block"},
		"a claim that waits shows nothing of what it wants": {"persistentvolumeclaims", claim(old + `, spec: {accessModes: [ReadWriteMany],
			resources: {requests: {storage: 1Gi}}}, status: {phase: Pending}`), "x|Pending|||||<unset>|120m|<unset>"},
		"a claim that goes, with its class in the old place": {"persistentvolumeclaims", claim(`metadata: {name: x, deletionTimestamp: "2026-05-01T11:00:00Z",
			annotations: {volume.beta.kubernetes.io/storage-class: slow}}, spec: {storageClassName: fast, volumeAttributesClassName: gold}, status: {phase: Bound}`),
			"x|Terminating||||slow|gold|<unknown>|<unset>"},
	}
}

func serviceRows() map[string]row {
	service := func(rest string) string { return `{apiVersion: v1, kind: Service, ` + old + `, ` + rest + `}` }
	endpoints := func(rest string) string {
		return `{apiVersion: v1, kind: Endpoints, ` + old + `, subsets: ` + rest + `}`
	}
	slice := func(rest string) string {
		return `{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, ` + old + `, addressType: IPv4, ` + rest + `}`
	}
	const slices = "endpointslices.discovery.k8s.io"
	return map[string]row{
		"a Service in the cluster": {"services", service(`spec: {type: ClusterIP, clusterIPs: [10.96.0.1, fd00::1], selector: {b: two, a: one},
			ports: [{port: 80, protocol: TCP}, {port: 53, protocol: UDP}]}`), "x|ClusterIP|10.96.0.1|<none>|80/TCP,53/UDP|120m|a=one,b=two"},
		"a headless Service": {"services", service(`spec: {type: ClusterIP, clusterIPs: [None]}`), "x|ClusterIP|None|<none>|<none>|120m|<none>"},
		"a Service with ports on the node and external addresses": {"services", service(`spec: {type: NodePort, clusterIPs: [10.96.0.1], externalIPs: [1.1.1.1, 2.2.2.2],
			ports: [{port: 80, nodePort: 30080, protocol: TCP}]}`), "x|NodePort|10.96.0.1|1.1.1.1,2.2.2.2|80:30080/TCP|120m|<none>"},
		"a load balancer that is not there yet": {"services", service(`spec: {type: LoadBalancer}`), "x|LoadBalancer|<none>|<pending>|<none>|120m|<none>"},
		"a load balancer's addresses, in order and once, before the external ones": {"services", service(`spec: {type: LoadBalancer, externalIPs: [1.1.1.1]},
			status: {loadBalancer: {ingress: [{hostname: lb.example}, {ip: 9.9.9.9, hostname: hidden}, {ip: 9.9.9.9}, {}]}}`),
			"x|LoadBalancer|<none>|9.9.9.9,lb.example,1.1.1.1|<none>|120m|<none>"},
		"a load balancer with external addresses alone": {"services", service(`spec: {type: LoadBalancer, externalIPs: [1.1.1.1]}`), "x|LoadBalancer|<none>|1.1.1.1|<none>|120m|<none>"},
		"a Service that is a name":                      {"services", service(`spec: {type: ExternalName, externalName: example.org}`), "x|ExternalName|<none>|example.org|<none>|120m|<none>"},
		"a Service without a type":                      {"services", service(`spec: {}`), "x||<none>|<unknown>|<none>|120m|<none>"},

		"no endpoints":        {"endpoints", endpoints(`[]`), "x|<none>|120m"},
		"none that are ready": {"endpoints", endpoints(`[{notReadyAddresses: [{ip: 10.0.0.1}], ports: [{port: 80}]}]`), "x||120m"},
		"three endpoints":     {"endpoints", endpoints(`[{addresses: [{ip: 10.0.0.1}, {ip: fd00::1}, {ip: 10.0.0.3}], ports: [{port: 80}]}]`), "x|10.0.0.1:80,[fd00::1]:80,10.0.0.3:80|120m"},
		"more than three endpoints, port by port": {"endpoints", endpoints(`[{addresses: [{ip: 10.0.0.1}, {ip: 10.0.0.2}], ports: [{port: 80}, {port: 81}]},
			{addresses: [{ip: 10.0.0.3}, {ip: 10.0.0.4}]}]`), "x|10.0.0.1:80,10.0.0.2:80,10.0.0.1:81 + 3 more...|120m"},
		"endpoints without ports": {"endpoints", endpoints(`[{addresses: [{ip: 10.0.0.1}]}]`), "x|10.0.0.1|120m"},

		"an empty slice": {slices, slice(`endpoints: []`), "x|IPv4|<unset>|<unset>|120m"},
		"a slice with more than is shown": {slices, slice(`ports: [{port: 80}, {name: web}, {}, {port: 81}, {port: 82}],
			endpoints: [{addresses: [10.0.0.1, 10.0.0.2]}, {addresses: [10.0.0.3]}, {addresses: [10.0.0.4]}]`),
			"x|IPv4|80,web,* + 2 more...|10.0.0.1,10.0.0.2,10.0.0.3 + 1 more...|120m"},
	}
}

func policyRows() map[string]row {
	const subjects = `subjects: [{kind: User, name: eve}, {kind: Group, name: staff}, {kind: ServiceAccount, name: sa, namespace: ns},
		{kind: User, name: bob}, {kind: Other, name: hidden}]`
	return map[string]row{
		"a quota, with requests and limits apart and in order": {"resourcequotas", `{apiVersion: v1, kind: ResourceQuota, ` + old + `, status: {
			hard: {requests.cpu: "2", pods: "10", limits.memory: 4Gi, limits.cpu: "4", limitsfoo: "1"}, used: {pods: "3", requests.cpu: 500m, limits.cpu: "1"}}}`,
			"x|limitsfoo: 0/1, pods: 3/10, requests.cpu: 500m/2|limits.cpu: 1/4, limits.memory: 0/4Gi|120m"},
		"a quota that nothing is known of": {"resourcequotas", `{apiVersion: v1, kind: ResourceQuota, ` + old + `, spec: {hard: {pods: "1"}}}`, "x|||120m"},
		"a PriorityClass": {"priorityclasses.scheduling.k8s.io", `{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, ` + old + `, value: -5,
			globalDefault: true, preemptionPolicy: Never}`, "x|-5|true|120m|Never"},
		"a PriorityClass without a policy": {"priorityclasses.scheduling.k8s.io", `{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, ` + old + `}`, "x|0|false|120m|"},
		"a RoleBinding": {"rolebindings.rbac.authorization.k8s.io", `{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, ` + old + `,
			roleRef: {kind: Role, name: reader}, ` + subjects + `}`, "x|Role/reader|120m|eve, bob|staff|ns/sa"},
		"a ClusterRoleBinding of nobody": {"clusterrolebindings.rbac.authorization.k8s.io", `{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, ` + old + `,
			roleRef: {kind: ClusterRole, name: admin}}`, "x|ClusterRole/admin|120m|||"},
		"a ClusterRole, which has no columns of its own": {"clusterroles.rbac.authorization.k8s.io", `{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, ` + old + `}`,
			"x|2026-05-01T10:00:00Z"},
	}
}
