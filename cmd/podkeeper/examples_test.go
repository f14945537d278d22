package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestExamplesOfTheDocumentation runs Pods of Kubernetes' documentation as they are written there, but for the image and the
// grace period, and looks at what it says one should see.
func TestExamplesOfTheDocumentation(t *testing.T) {
	t.Parallel()
	n := launch(t)
	for name, c := range map[string]struct {
		manifest string
		command  string // a shell script in place of the example's
		want     []string
	}{
		// kubernetes.io/docs/tasks/configure-pod-container/security-context
		"security-context-demo": {`apiVersion: v1
kind: Pod
metadata:
  name: security-context-demo
spec:
  securityContext:
    runAsUser: 1000
    runAsGroup: 3000
    fsGroup: 2000
    supplementalGroups: [4000]
  volumes:
  - name: sec-ctx-vol
    emptyDir: {}
  containers:
  - name: sec-ctx-demo
    image: IMAGE
    command: COMMAND
    volumeMounts:
    - name: sec-ctx-vol
      mountPath: /data/demo
    securityContext:
      allowPrivilegeEscalation: false
`, "id; cd /data/demo; echo hello > testfile; stat -c '%A %u %g' testfile .",
			// The image has a user of this number, and a group that he is in.
			[]string{"uid=1000(www) gid=3000 groups=50(staff),2000,3000,4000", "-rw-r--r-- 1000 2000", "drwxrwsrwx 0 2000"}},
		// kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables
		"dependent-envars-demo": {`apiVersion: v1
kind: Pod
metadata:
  name: dependent-envars-demo
spec:
  containers:
    - name: dependent-envars-demo
      args:
        - COMMAND
      command:
        - sh
        - -c
      image: IMAGE
      env:
        - name: SERVICE_PORT
          value: "80"
        - name: SERVICE_IP
          value: "172.17.0.1"
        - name: UNCHANGED_REFERENCE
          value: "$(PROTOCOL)://$(SERVICE_IP):$(SERVICE_PORT)"
        - name: PROTOCOL
          value: "https"
        - name: SERVICE_ADDRESS
          value: "$(PROTOCOL)://$(SERVICE_IP):$(SERVICE_PORT)"
        - name: ESCAPED_REFERENCE
          value: "$$(PROTOCOL)://$(SERVICE_IP):$(SERVICE_PORT)"
`, `printf UNCHANGED_REFERENCE=$UNCHANGED_REFERENCE'\n'; printf SERVICE_ADDRESS=$SERVICE_ADDRESS'\n'; printf ESCAPED_REFERENCE=$ESCAPED_REFERENCE'\n'`,
			[]string{"UNCHANGED_REFERENCE=$(PROTOCOL)://172.17.0.1:80", "SERVICE_ADDRESS=https://172.17.0.1:80", "ESCAPED_REFERENCE=$(PROTOCOL)://172.17.0.1:80"}},
		// kubernetes.io/docs/concepts/services-networking/dns-pod-service
		"dns-example": {`apiVersion: v1
kind: Pod
metadata:
  namespace: default
  name: dns-example
spec:
  containers:
    - name: test
      image: IMAGE
      command: COMMAND
  dnsPolicy: "None"
  dnsConfig:
    nameservers:
      - 192.0.2.1 # this is an example
    searches:
      - ns1.svc.cluster-domain.example
      - my.dns.search.suffix
    options:
      - name: ndots
        value: "2"
      - name: edns0
`, "cat /etc/resolv.conf",
			[]string{"search ns1.svc.cluster-domain.example my.dns.search.suffix", "nameserver 192.0.2.1", "options ndots:2 edns0"}},
		// kubernetes.io/docs/concepts/configuration/configmap
		"configmap-demo-pod": {`apiVersion: v1
kind: ConfigMap
metadata:
  name: game-demo
data:
  # property-like keys; each key maps to a simple value
  player_initial_lives: "3"
  ui_properties_file_name: "user-interface.properties"

  # file-like keys
  game.properties: |
    enemy.types=aliens,monsters
    player.maximum-lives=5
  user-interface.properties: |
    color.good=purple
    color.bad=yellow
    allow.textmode=true
---
apiVersion: v1
kind: Pod
metadata:
  name: configmap-demo-pod
spec:
  containers:
    - name: demo
      image: IMAGE
      command: COMMAND
      env:
        # Define the environment variable
        - name: PLAYER_INITIAL_LIVES # Notice that the case is different here
                                     # from the key name in the ConfigMap.
          valueFrom:
            configMapKeyRef:
              name: game-demo           # The ConfigMap this value comes from.
              key: player_initial_lives # The key to fetch.
        - name: UI_PROPERTIES_FILE_NAME
          valueFrom:
            configMapKeyRef:
              name: game-demo
              key: ui_properties_file_name
      volumeMounts:
      - name: config
        mountPath: "/config"
        readOnly: true
  volumes:
  # You set volumes at the Pod level, then mount them into containers inside that Pod
  - name: config
    configMap:
      # Provide the name of the ConfigMap you want to mount.
      name: game-demo
      # An array of keys from the ConfigMap to create as files
      items:
      - key: "game.properties"
        path: "game.properties"
      - key: "user-interface.properties"
        path: "user-interface.properties"
`, "echo $PLAYER_INITIAL_LIVES $UI_PROPERTIES_FILE_NAME; cat /config/game.properties; ls /config",
			[]string{"3 user-interface.properties", "enemy.types=aliens,monsters", "player.maximum-lives=5", "game.properties", "user-interface.properties"}},
		// kubernetes.io/docs/concepts/storage/ephemeral-volumes
		"my-app": {`kind: Pod
apiVersion: v1
metadata:
  name: my-app
spec:
  containers:
    - name: my-frontend
      image: IMAGE
      volumeMounts:
      - mountPath: "/scratch"
        name: scratch-volume
      command: COMMAND
  volumes:
    - name: scratch-volume
      ephemeral:
        volumeClaimTemplate:
          metadata:
            labels:
              type: my-frontend-volume
          spec:
            accessModes: [ "ReadWriteOnce" ]
            resources:
              requests:
                storage: 1Gi
`, "echo kept > /scratch/file; cat /scratch/file; stat -c %a /scratch", []string{"kept", "777"}},
	} {
		script := c.command + "; " + forever
		command := fmt.Sprintf("[sh, -c, %q]", script)
		if strings.Contains(c.manifest, "- COMMAND") {
			command = fmt.Sprintf("%q", script)
		}
		text := strings.ReplaceAll(strings.ReplaceAll(c.manifest, "COMMAND", command), "IMAGE", image)
		at := strings.LastIndex(text, "\nspec:\n") + len("\nspec:\n")
		n.apply(name+".yaml", text[:at]+"  terminationGracePeriodSeconds: 1\n"+text[at:])
		pod := n.awaitReady(name)
		n.eventually(name+" says what the documentation does", func() error {
			if lines := n.logLines(pod, pod.Spec.Containers[0].Name, 0); !slices.Equal(lines, c.want) {
				return fmt.Errorf("it says %q, want %q", lines, c.want)
			}
			return nil
		})
	}
}
