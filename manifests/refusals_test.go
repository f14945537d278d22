package manifests

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// refused is a broken manifest with every message its author gets, and the Pods that are fit to run all the same.
type refused struct {
	manifest string
	want     []string
	pods     []string
}

// refusals is what a user gets to read. The words after "Invalid value:" and the like are Kubernetes' own.
var refusals = map[string]refused{
	"a misspelt field names the field that was meant": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  contaienrs:
  - name: app
    image: demo:v1
`,
		want: []string{
			`x.yaml:6: spec.contaienrs: unknown field: did you mean "containers"?`,
		},
	},
	"a field in the wrong case": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    Image: demo:v1
`,
		want: []string{
			`x.yaml:8: spec.containers[0].Image: unknown field: did you mean "image"?`,
		},
	},
	"a field that is like no other": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    frobnicate: 1
`,
		want: []string{
			"x.yaml:9: spec.containers[0].frobnicate: unknown field",
		},
	},
	"tabs as indentation": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
	containers:
  - name: app
    image: demo:v1
`,
		want: []string{
			"x.yaml:6: a tab indents this line: YAML wants spaces",
		},
	},
	"a line that is not indented far enough": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
   image: demo:v1
`,
		want: []string{
			"x.yaml:8: not YAML: did not find expected key",
		},
	},
	"a missing colon": {
		manifest: `apiVersion: v1
kind Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
`,
		want: []string{
			"x.yaml:2: not YAML: could not find expected ':'",
		},
	},
	"an unclosed quote": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: "demo:v1
`,
		want: []string{
			"x.yaml:8: not YAML: found unexpected end of stream",
		},
	},
	"a duplicate key": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    image: demo:v2
`,
		want: []string{
			"x.yaml:9: spec.containers[0].image: given twice: it is 1 line above already",
		},
	},
	"a number where text is wanted": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    env:
    - name: LEVEL
      value: 5
`,
		want: []string{
			`x.yaml:11: spec.containers[0].env[0].value: wants text, not the number 5: put it in quotes: "5"`,
		},
	},
	"a boolean where text is wanted": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    env:
    - name: DEBUG
      value: true
`,
		want: []string{
			`x.yaml:11: spec.containers[0].env[0].value: wants text, not the boolean true: put it in quotes: "true"`,
		},
	},
	"yes where text is wanted is a boolean in YAML": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    env:
    - name: DEBUG
      value: yes
`,
		want: []string{
			`x.yaml:11: spec.containers[0].env[0].value: wants text, not the boolean yes: put it in quotes: "yes"`,
		},
	},
	"text where a number is wanted": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    ports:
    - containerPort: "8080"
`,
		want: []string{
			`x.yaml:10: spec.containers[0].ports[0].containerPort: wants a whole number, not the text "8080": drop the quotes`,
		},
	},
	"a fraction where a whole number is wanted": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    ports:
    - containerPort: 80.5
`,
		want: []string{
			"x.yaml:10: spec.containers[0].ports[0].containerPort: wants a whole number, not 80.5",
		},
	},
	"a number that does not fit": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    ports:
    - containerPort: 99999999999
`,
		want: []string{
			"x.yaml:10: spec.containers[0].ports[0].containerPort: 99999999999 is out of range for a whole number of 32 bits",
		},
	},
	"text where a boolean is wanted": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
  hostNetwork: "true"
`,
		want: []string{
			`x.yaml:9: spec.hostNetwork: wants true or false, not the text "true": drop the quotes`,
		},
	},
	"text where a list is wanted": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    command: sleep 5
`,
		want: []string{
			`x.yaml:9: spec.containers[0].command: wants a list, not the text "sleep 5": write ["sleep 5"]`,
		},
	},
	"a mapping where a list is wanted": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
    name: app
    image: demo:v1
`,
		want: []string{
			`x.yaml:7: spec.containers: wants a list, not a mapping: start each item with "- "`,
		},
	},
	"a list where a mapping is wanted": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
- name: web
spec:
  containers:
  - name: app
    image: demo:v1
`,
		want: []string{
			"x.yaml:4: metadata: wants a mapping, not a list",
		},
	},
	"a list where text is wanted": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    workingDir: [a]
`,
		want: []string{
			"x.yaml:9: spec.containers[0].workingDir: wants text, not a list",
		},
	},
	"a label that is a boolean": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
  labels:
    on: "x"
    tier: 1
spec:
  containers:
  - name: app
    image: demo:v1
`,
		want: []string{
			"x.yaml:6: metadata.labels: key on is the boolean on: put it in quotes",
			`x.yaml:7: metadata.labels[tier]: wants text, not the number 1: put it in quotes: "1"`,
		},
	},
	"a tag of a programming language": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    workingDir: !ruby/object x
`,
		want: []string{
			"x.yaml:9: spec.containers[0].workingDir: YAML tag !ruby/object: not supported: remove it",
		},
	},
	"a bad quantity": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    resources:
      limits:
        memory: 1 GB
`,
		want: []string{
			`x.yaml:11: spec.containers[0].resources.limits[memory]: "1 GB" is not an amount: write a number, with a unit or without, and no blank between: 500m, 1.5, 128Mi, 1Gi`,
		},
	},
	"a list as a quantity": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    resources:
      limits:
        cpu: [1]
`,
		want: []string{
			"x.yaml:11: spec.containers[0].resources.limits[cpu]: wants an amount such as 500m, 1.5 or 128Mi, not a list",
		},
	},
	"requests above limits": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    resources:
      requests:
        cpu: 2
      limits:
        cpu: 1
`,
		want: []string{
			`x.yaml:10: spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1`,
		},
	},
	"a negative quantity": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    resources:
      limits:
        memory: -1Mi
`,
		want: []string{
			`x.yaml:9: spec.containers[0].resources.requests[memory]: Invalid value: "-1Mi": must be greater than or equal to 0`,
			`x.yaml:11: spec.containers[0].resources.limits[memory]: Invalid value: "-1Mi": must be greater than or equal to 0`,
		},
	},
	"an unknown imagePullPolicy": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    imagePullPolicy: Sometimes
`,
		want: []string{
			`x.yaml:9: spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never"`,
		},
	},
	"an unknown restartPolicy": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
  restartPolicy: always
`,
		want: []string{
			`x.yaml:9: spec.restartPolicy: Unsupported value: "always": supported values: "Always", "OnFailure", "Never"`,
		},
	},
	"two containers of one name": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
  - name: app
    image: demo:v2
`,
		want: []string{
			`x.yaml:9: spec.containers[1].name: Duplicate value: "app": another one has this name already`,
		},
	},
	"a port out of range": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    ports:
    - containerPort: 70000
`,
		want: []string{
			"x.yaml:10: spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
		},
	},
	"two ports of one name": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    ports:
    - {name: http, containerPort: 80}
    - {name: http, containerPort: 81}
`,
		want: []string{
			`x.yaml:11: spec.containers[0].ports[1].name: Duplicate value: "http": another one has this name already`,
		},
	},
	"one host port twice": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    ports:
    - {containerPort: 80, hostPort: 8080}
    - {containerPort: 81, hostPort: 8080}
`,
		want: []string{
			`x.yaml:11: spec.containers[0].ports[1].hostPort: Duplicate value: "TCP//8080"`,
		},
	},
	"a name that is no DNS name": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: Web_1
spec:
  containers:
  - name: app
    image: demo:v1
`,
		want: []string{
			`x.yaml:4: metadata.name: Invalid value: "Web_1": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`,
		},
	},
	"a container name that is no DNS label": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app.v1
    image: demo:v1
`,
		want: []string{
			`x.yaml:7: spec.containers[0].name: Invalid value: "app.v1": must not contain dots`,
		},
	},
	"a namespace that is no DNS label": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: team.a
spec:
  containers:
  - name: app
    image: demo:v1
`,
		want: []string{
			`x.yaml:5: metadata.namespace: Invalid value: "team.a": must not contain dots`,
		},
	},
	"a label value that is too odd": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
  labels:
    app: a b
spec:
  containers:
  - name: app
    image: demo:v1
`,
		want: []string{
			`x.yaml:5: metadata.labels: Invalid value: "a b": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')`,
		},
	},
	"an empty file": {
		manifest: "",
		want: []string{
			"x.yaml: empty: a manifest starts with apiVersion: v1 and kind: Pod (to stop its Pods, remove the file)",
		},
	},
	"a file of comments": {
		manifest: `# nothing
---
# here
`,
		want: []string{
			"x.yaml: empty: a manifest starts with apiVersion: v1 and kind: Pod (to stop its Pods, remove the file)",
		},
	},
	"binary junk": {
		manifest: "\x00\x01\x7fELF",
		want: []string{
			"x.yaml: not a text file: a manifest is YAML or JSON in UTF-8",
		},
	},
	"a byte that is no UTF-8": {
		manifest: "kind: \xff\n",
		want: []string{
			"x.yaml: not a text file: a manifest is YAML or JSON in UTF-8",
		},
	},
	"UTF-16": {
		manifest: "\xff\xfek\x00",
		want: []string{
			"x.yaml: UTF-16 text: save it as UTF-8",
		},
	},
	"eleven megabytes": {
		manifest: strings.Repeat("# padding\n", 11<<20/10),
		want: []string{
			"x.yaml: too large: a manifest file has at most 10 MiB",
		},
	},
	"a sentence instead of a manifest": {
		manifest: `hello, world
`,
		want: []string{
			"x.yaml:1: not a Kubernetes object: a manifest starts with apiVersion: v1 and kind: Pod",
		},
	},
	"a list instead of a manifest": {
		manifest: `- apiVersion: v1
`,
		want: []string{
			"x.yaml:1: not a Kubernetes object: a manifest starts with apiVersion: v1 and kind: Pod",
		},
	},
	"a missing image": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
`,
		want: []string{
			"x.yaml:7: spec.containers[0].image: Required value: the image to run, such as docker.io/library/busybox:1.37",
		},
	},
	"a missing container name": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - image: demo:v1
`,
		want: []string{
			"x.yaml:7: spec.containers[0].name: Required value: such as app",
		},
	},
	"no containers": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  restartPolicy: Never
`,
		want: []string{
			"x.yaml:5: spec.containers: Required value: a Pod needs at least one",
		},
	},
	"no spec": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
`,
		want: []string{
			"x.yaml:1: spec.containers: Required value: a Pod needs at least one",
		},
	},
	"an image with blanks": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: " demo:v1"
`,
		want: []string{
			`x.yaml:8: spec.containers[0].image: Invalid value: " demo:v1": must not have leading or trailing whitespace`,
		},
	},
	"a negative grace period is one second, as in Kubernetes": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
  terminationGracePeriodSeconds: -1
`,
		pods: []string{"default/web"},
	},
	"a mount of an unknown volume": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    volumeMounts:
    - {name: dta, mountPath: /data}
  volumes:
  - name: data
    emptyDir: {}
`,
		want: []string{
			`x.yaml:10: spec.containers[0].volumeMounts[0].name: Not found: "dta": did you mean "data"?`,
		},
	},
	"a mount where there are no volumes": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    volumeMounts:
    - {name: data, mountPath: /data}
`,
		want: []string{
			`x.yaml:10: spec.containers[0].volumeMounts[0].name: Not found: "data": no volume under spec.volumes has this name`,
		},
	},
	"two mounts on one path": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    volumeMounts:
    - {name: data, mountPath: /data}
    - {name: data, mountPath: /data}
  volumes:
  - name: data
`,
		want: []string{
			`x.yaml:11: spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/data": must be unique`,
		},
	},
	"a mount above the volume": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    volumeMounts:
    - {name: data, mountPath: /data, subPath: ../x}
  volumes:
  - name: data
`,
		want: []string{
			`x.yaml:9: spec.containers[0].volumeMounts.subPath: Invalid value: "../x": must not contain '..'`,
		},
	},
	"a volume of two kinds": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
  volumes:
  - name: data
    emptyDir: {}
    hostPath: {path: /x}
`,
		want: []string{
			"x.yaml:12: spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
		},
	},
	"a liveness probe with a successThreshold": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    livenessProbe:
      tcpSocket: {port: 80}
      successThreshold: 2
`,
		want: []string{
			"x.yaml:11: spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
		},
	},
	"a probe that does nothing": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    readinessProbe:
      periodSeconds: 5
`,
		want: []string{
			"x.yaml:9: spec.containers[0].readinessProbe: Required value: must specify a handler type",
		},
	},
	"a probe of two kinds": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    readinessProbe:
      tcpSocket: {port: 80}
      exec: {command: ["true"]}
`,
		want: []string{
			"x.yaml:10: spec.containers[0].readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
		},
	},
	"a probe of a port that is none": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    readinessProbe:
      tcpSocket: {port: 0}
`,
		want: []string{
			"x.yaml:10: spec.containers[0].readinessProbe.tcpSocket.port: Invalid value: 0: must be between 1 and 65535, inclusive",
		},
	},
	"a Deployment": {
		manifest: `apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
`,
		want: []string{
			"x.yaml:2: kind: kind Deployment: not supported: podkeeper runs Pods",
		},
	},
	"a ConfigMap": {
		manifest: `apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
data: {a: b}
`,
		want: []string{
			"x.yaml:2: kind: kind ConfigMap: not supported: podkeeper runs Pods",
		},
	},
	"a kind in lower case": {
		manifest: `apiVersion: v1
kind: pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
`,
		want: []string{
			`x.yaml:2: kind: kind pod: not supported: podkeeper runs Pods; did you mean "Pod"?`,
		},
	},
	"a wrong apiVersion": {
		manifest: `apiVersion: v2
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
`,
		want: []string{
			`x.yaml:1: apiVersion: "v2": a Pod wants apiVersion: v1`,
		},
	},
	"a missing apiVersion": {
		manifest: `kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
`,
		want: []string{
			"x.yaml:1: apiVersion: missing: a Pod wants apiVersion: v1",
		},
	},
	"a missing kind": {
		manifest: `apiVersion: v1
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
`,
		want: []string{
			"x.yaml:1: kind: missing: write kind: Pod",
		},
	},
	"missing metadata": {
		manifest: `apiVersion: v1
kind: Pod
spec:
  containers:
  - name: app
    image: demo:v1
`,
		want: []string{
			"x.yaml:1: metadata.name: missing: a Pod needs a name, such as web",
		},
	},
	"a name to be made up by a server": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  generateName: web-
spec:
  containers:
  - name: app
    image: demo:v1
`,
		want: []string{
			"x.yaml:3: metadata.name: missing: a Pod needs a name, such as web",
			"x.yaml:4: metadata.generateName: not supported",
		},
	},
	"a UID that leads out of its folder": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
  uid: ../../etc
spec:
  containers:
  - name: app
    image: demo:v1
`,
		want: []string{
			`x.yaml:5: metadata.uid: "../../etc": wants at most 63 letters, digits and dashes`,
		},
	},
	"an NFS volume": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
  volumes:
  - name: data
    nfs: {server: a, path: /b}
`,
		want: []string{
			"x.yaml:11: spec.volumes[0].nfs: not supported",
		},
	},
	"a secret in the environment": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    env:
    - name: A
      valueFrom:
        secretKeyRef: {name: a, key: b}
`,
		want: []string{
			"x.yaml:12: spec.containers[0].env[0].valueFrom.secretKeyRef: not supported",
		},
	},
	"a preStop hook": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    lifecycle:
      preStop:
        exec: {command: ["true"]}
`,
		want: []string{
			"x.yaml:9: spec.containers[0].lifecycle: not supported",
		},
	},
	"a terminal": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    stdin: true
    tty: true
`,
		want: []string{
			"x.yaml:9: spec.containers[0].stdin: not supported",
			"x.yaml:10: spec.containers[0].tty: not supported",
		},
	},
	"an fsGroup, even of 0": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
  securityContext:
    fsGroup: 0
`,
		want: []string{
			"x.yaml:10: spec.securityContext.fsGroup: not supported",
		},
	},
	"fields of the scheduler": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
  nodeName: here
  nodeSelector: {a: b}
  schedulerName: mine
  priorityClassName: high
  tolerations:
  - operator: Exists
`,
		want: []string{
			"x.yaml:9: spec.nodeName: not supported",
			"x.yaml:10: spec.nodeSelector: not supported",
			`x.yaml:11: spec.schedulerName: "mine": not supported: supported values: "default-scheduler"`,
			"x.yaml:12: spec.priorityClassName: not supported",
			"x.yaml:13: spec.tolerations: not supported",
		},
	},
	"an emptyDir on huge pages": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
  volumes:
  - name: data
    emptyDir: {medium: HugePages}
`,
		want: []string{
			`x.yaml:11: spec.volumes[0].emptyDir.medium: "HugePages": not supported: supported values: "Memory"`,
		},
	},
	"an emptyDir of limited size on disk": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
  volumes:
  - name: data
    emptyDir: {sizeLimit: 1Gi}
`,
		want: []string{
			"x.yaml:11: spec.volumes[0].emptyDir.sizeLimit: not supported on disk: only with medium: Memory",
		},
	},
	"a device plugin's resource": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    resources:
      limits: {nvidia.com/gpu: 1}
`,
		want: []string{
			"x.yaml:10: spec.containers[0].resources.limits[nvidia.com/gpu]: not supported: only cpu and memory are",
		},
	},
	"a limit of ephemeral storage": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    resources:
      limits: {ephemeral-storage: 1Gi}
`,
		want: []string{
			"x.yaml:10: spec.containers[0].resources.limits[ephemeral-storage]: not supported: only cpu and memory are",
		},
	},
	"a restartPolicy on a container": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    restartPolicy: Always
`,
		want: []string{
			"x.yaml:9: spec.containers[0].restartPolicy: not supported here: only on init containers, which it makes sidecars; for the whole Pod write spec.restartPolicy",
		},
	},
	"an init container that restarts never": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
  initContainers:
  - {name: init, image: demo, restartPolicy: Never}
`,
		want: []string{
			`x.yaml:10: spec.initContainers[0].restartPolicy: "Never": not supported: supported values: "Always"`,
		},
	},
	"a token that is wanted": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
  automountServiceAccountToken: true
`,
		want: []string{
			"x.yaml:9: spec.automountServiceAccountToken: true: not supported: only false is",
		},
	},
	"Windows": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
  os: {name: windows}
`,
		want: []string{
			`x.yaml:9: spec.os.name: "windows": not supported: supported values: "linux"`,
		},
	},
	"an AppArmor profile by annotation": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
  annotations:
    container.apparmor.security.beta.kubernetes.io/app: unconfined
spec:
  containers:
  - name: app
    image: demo:v1
`,
		want: []string{
			"x.yaml:6: metadata.annotations[container.apparmor.security.beta.kubernetes.io/app]: not supported: AppArmor profiles are not set by podkeeper",
		},
	},
	"two documents of which one is broken": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
---
apiVersion: v1
kind: Pod
metadata:
  name: other
spec:
  containers:
  - name: app
    imgae: demo:v1
`,
		want: []string{
			`x.yaml:17: spec.containers[0].imgae: unknown field: did you mean "image"?`,
		},
		pods: []string{"default/web"},
	},
	"two documents of one name": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
---
apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
`,
		want: []string{
			"x.yaml:13: metadata.name: Pod default/web is already defined at x.yaml:4: give one of them another name, or remove it",
		},
		pods: []string{"default/web"},
	},
	"a list with one broken item": {
		manifest: `apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata: {name: one}
  spec: {containers: [{name: a, image: b}]}
- apiVersion: v1
  kind: Pod
  metadata: {name: two}
  spec: {containers: [{name: a, imag: b}]}
`,
		want: []string{
			`x.yaml:11: items[1].spec.containers[0].imag: unknown field: did you mean "image"?`,
		},
		pods: []string{"default/one"},
	},
	"a list without items": {
		manifest: `apiVersion: v1
kind: List
`,
		want: []string{
			"x.yaml:1: items: missing: a list has its objects under items:",
		},
	},
	"a list of a list": {
		manifest: `apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: List, items: []}
`,
		want: []string{
			"x.yaml:4: items[0].kind: a list in a list: not supported",
		},
	},
	"a list of kinds": {
		manifest: `apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Secret, metadata: {name: s}}
`,
		want: []string{
			"x.yaml:4: items[0].kind: kind Secret: not supported: podkeeper runs Pods",
		},
	},
	"several faults are told at once": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - nam: app
    image: 5
  restartPolcy: Always
`,
		want: []string{
			`x.yaml:7: spec.containers[0].nam: unknown field: did you mean "name"?`,
			`x.yaml:8: spec.containers[0].image: wants text, not the number 5: put it in quotes: "5"`,
			`x.yaml:9: spec.restartPolcy: unknown field: did you mean "restartPolicy"?`,
		},
	},
	"an alias to nothing": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    args: *nothing
`,
		want: []string{
			"x.yaml:9: not YAML: unknown anchor 'nothing' referenced",
		},
	},
	"an anchor that holds itself": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: demo:v1
    args: &a [*a]
`,
		want: []string{
			"x.yaml:9: spec.containers[0].args[0]: wants text, not a list",
		},
	},
	"broken JSON": {
		manifest: `{"apiVersion": "v1", "kind": "Pod",
 "metadata": {"name": "web",}
 "spec": {}}
`,
		want: []string{
			"x.yaml:2: not YAML: did not find expected ',' or '}'",
		},
	},
	"a UID that two Pods want": {
		manifest: `apiVersion: v1
kind: Pod
metadata:
  name: web
  uid: abc
spec:
  containers:
  - name: app
    image: demo:v1
---
apiVersion: v1
kind: Pod
metadata:
  name: two
  uid: abc
spec:
  containers:
  - name: app
    image: demo:v1
`,
		want: []string{
			`x.yaml:14: metadata.uid: "abc" is the UID of Pod default/web already: remove it, podkeeper finds one`,
		},
		pods: []string{"default/web"},
	},
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, c := range refusals {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pods, refused := Decode("x.yaml", []byte(c.manifest))
			if diff := cmp.Diff(c.want, messages(refused)); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.pods, names(pods)); diff != "" {
				t.Errorf("Pods (-want +got):\n%s", diff)
			}
			if strings.Contains(strings.Join(messages(refused), ""), "\n") {
				t.Error("a message has more than one line")
			}
		})
	}
}

func messages(refused []Refusal) []string {
	var all []string
	for _, r := range refused {
		all = append(all, r.Error())
	}
	return all
}

func names(pods []Pod) []string {
	var all []string
	for _, p := range pods {
		all = append(all, p.key().String())
	}
	slices.Sort(all)
	return all
}
