package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
	v1 "k8s.io/api/core/v1"
)

// pushServices builds the images of hack/serviceimages, and puts them into the registry. It answers what replaces their names in a
// manifest. A guest has no Go, and reaches no packages.
func pushServices(t *testing.T) *strings.Replacer {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skipf("no images of services: they are built where Go is: %v", err)
	}
	dir := t.TempDir()
	builder := filepath.Join(dir, "serviceimages")
	if out, err := exec.Command("go", "build", "-o", builder, "../../hack/serviceimages").CombinedOutput(); err != nil {
		t.Fatalf("build the builder of images: %v: %s", err, out)
	}
	out, err := exec.Command(builder, "-o", dir).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 241 {
		t.Skipf("no images of services: %s", out)
	}
	if err != nil {
		t.Fatalf("build images of services: %v: %s", err, out)
	}
	var names []string
	for _, service := range []string{"nginx", "postgres", "redis"} {
		image, err := tarball.ImageFromPath(filepath.Join(dir, service+".tar"), nil)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, "image: "+service, "image: "+pushTo(t, lab.registry+"/services/"+service+":v1", image))
	}
	return strings.NewReplacer(names...)
}

// TestServices runs nginx, postgres and redis as they are, from Debian's packages, by manifests as a user writes them: users that
// are not root, probes, limits, configuration and passwords from objects, and data that outlives a container or a Pod. None of
// them may need its grace period, which is longer than the test waits.
func TestServices(t *testing.T) {
	t.Parallel()
	n := launch(t)
	images := pushServices(t)
	n.apply("nginx.yaml", images.Replace(nginxManifest))
	n.apply("redis.yaml", images.Replace(redisManifest))
	n.apply("postgres.yaml", images.Replace(postgresManifest))
	n.nginxServes()
	n.redisKeeps()
	n.postgresKeeps(images)
	for _, service := range []string{"nginx", "redis", "postgres"} {
		n.remove(service + ".yaml")
	}
	for _, service := range []string{"nginx", "redis", "postgres"} {
		n.awaitGone(service)
	}
}

const nginxManifest = `apiVersion: v1
kind: ConfigMap
metadata: {name: nginx}
data:
  nginx.conf: |
    pid /run/nginx/nginx.pid;
    error_log stderr;
    events {}
    http {
      access_log /dev/stdout;
      client_body_temp_path /run/nginx/body;
      proxy_temp_path /run/nginx/proxy;
      fastcgi_temp_path /run/nginx/fastcgi;
      uwsgi_temp_path /run/nginx/uwsgi;
      scgi_temp_path /run/nginx/scgi;
      server {
        listen 8080;
        root /srv/www;
        location = /healthz { access_log off; return 204; }
      }
    }
  index.html: |
    served by nginx
---
apiVersion: v1
kind: Pod
metadata: {name: nginx}
spec:
  terminationGracePeriodSeconds: 3600
  securityContext: {runAsNonRoot: true, fsGroup: 2000, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: nginx
    image: nginx
    ports: [{name: http, containerPort: 8080}]
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
    resources: {requests: {cpu: 50m, memory: 16Mi}, limits: {cpu: "1", memory: 64Mi}}
    readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1, timeoutSeconds: 30}
    livenessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1, timeoutSeconds: 30}
    volumeMounts:
    - {name: config, mountPath: /etc/nginx/nginx.conf, subPath: nginx.conf, readOnly: true}
    - {name: config, mountPath: /srv/www/index.html, subPath: index.html, readOnly: true}
    - {name: run, mountPath: /run/nginx}
  volumes:
  - {name: config, configMap: {name: nginx}}
  - {name: run, emptyDir: {medium: Memory, sizeLimit: 16Mi}}
`

// nginxServes asks nginx for its page, and finds that in its log.
func (n *node) nginxServes() {
	n.t.Helper()
	pod := n.awaitReady("nginx")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+pod.Status.PodIP+":8080/index.html?asked", nil)
	if err != nil {
		n.t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		n.t.Fatal(err)
	}
	defer answer.Body.Close()
	if body, err := io.ReadAll(answer.Body); string(body) != "served by nginx\n" {
		n.t.Errorf("nginx answers %q (%v)", body, err)
	}
	n.eventually("nginx logs the request", func() error {
		lines := n.logLines(pod, "nginx", 0)
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, `"GET /index.html?asked HTTP/1.1" 200`) }) {
			return fmt.Errorf("it says %q", lines)
		}
		return nil
	})
}

const redisManifest = `apiVersion: v1
kind: ConfigMap
metadata: {name: redis}
data:
  redis.conf: |
    dir /data
    appendonly yes
    maxmemory 32mb
---
apiVersion: v1
kind: Secret
metadata: {name: redis}
stringData: {password: opensesame}
---
apiVersion: v1
kind: Pod
metadata: {name: redis}
spec:
  terminationGracePeriodSeconds: 3600
  securityContext: {runAsUser: 999, runAsGroup: 999, runAsNonRoot: true, fsGroup: 2000}
  containers:
  - name: redis
    image: redis
    args: [/etc/redis/redis.conf, --requirepass, $(REDIS_PASSWORD)]
    env:
    - {name: REDIS_PASSWORD, valueFrom: {secretKeyRef: {name: redis, key: password}}}
    - {name: REDISCLI_AUTH, value: $(REDIS_PASSWORD)}
    ports: [{name: redis, containerPort: 6379}]
    resources: {requests: {cpu: 50m, memory: 32Mi}, limits: {cpu: "1", memory: 128Mi}}
    readinessProbe: {exec: {command: [sh, -c, '[ "$(redis-cli ping)" = PONG ]']}, periodSeconds: 1, timeoutSeconds: 30}
    livenessProbe: {tcpSocket: {port: redis}, periodSeconds: 1, timeoutSeconds: 30}
    volumeMounts:
    - {name: config, mountPath: /etc/redis}
    - {name: data, mountPath: /data}
  volumes:
  - {name: config, configMap: {name: redis}}
  - {name: data, emptyDir: {}}
`

// redisKeeps sets a value, has redis end by itself, and gets the value from the next one.
func (n *node) redisKeeps() {
	n.t.Helper()
	pod := n.awaitReady("redis")
	n.asksRedis(pod, "SET word kept", "+OK")
	n.asksRedis(pod, "SHUTDOWN", "")
	pod = n.await("redis", "is ready again", func(p *v1.Pod) bool { return isReady(p) && p.Status.ContainerStatuses[0].RestartCount == 1 })
	if end := pod.Status.ContainerStatuses[0].LastTerminationState.Terminated; end == nil || end.ExitCode != 0 {
		n.t.Errorf("redis has ended with %+v", end)
	}
	n.asksRedis(pod, "GET word", "kept")
}

// asksRedis sends one command, by the address of the Pod, and compares the answer.
func (n *node) asksRedis(p *v1.Pod, command, want string) {
	n.t.Helper()
	conn, err := net.DialTimeout("tcp", p.Status.PodIP+":6379", patience)
	if err != nil {
		n.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	answers := bufio.NewScanner(conn)
	ask := func(line string) string { // one at a time: SHUTDOWN leaves nothing answered that was not read
		if _, err := fmt.Fprintf(conn, "%s\r\n", line); err != nil {
			n.t.Fatal(err)
		}
		answers.Scan()
		if strings.HasPrefix(answers.Text(), "$") { // the length of what follows
			answers.Scan()
		}
		return answers.Text()
	}
	if got := ask("AUTH opensesame"); got != "+OK" {
		n.t.Fatalf("redis answers %q to the password: %v", got, answers.Err())
	}
	got := ask(command)
	if got != want {
		n.t.Errorf("redis answers %q to %s, want %q", got, command, want)
	}
}

const postgresManifest = `apiVersion: v1
kind: ConfigMap
metadata: {name: postgres}
data:
  postgresql.conf: |
    listen_addresses = '*'
    unix_socket_directories = '/run/postgresql'
    hba_file = '/etc/postgresql/pg_hba.conf'
    shared_buffers = 16MB
    max_connections = 20
  pg_hba.conf: |
    local all all scram-sha-256
    host all all all scram-sha-256
---
apiVersion: v1
kind: Secret
metadata: {name: postgres}
stringData: {password: correct horse}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: postgres}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
---
apiVersion: v1
kind: Pod
metadata: {name: postgres}
spec:
  terminationGracePeriodSeconds: 3600
  securityContext: {runAsUser: 999, runAsGroup: 999, runAsNonRoot: true, fsGroup: 2000, fsGroupChangePolicy: OnRootMismatch}
  initContainers:
  - name: initdb
    image: postgres
    command: [sh, -ec]
    args:
    - |
      [ ! -s /data/pgdata/PG_VERSION ] || exit 0
      exec initdb -D /data/pgdata -U app -A scram-sha-256 --pwfile=/secret/password
    resources: &resources {requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: "2", memory: 256Mi}}
    volumeMounts: [{name: data, mountPath: /data}, {name: secret, mountPath: /secret, readOnly: true}]
  containers:
  - name: postgres
    image: postgres
    args: [postgres, -D, /data/pgdata, -c, config_file=/etc/postgresql/postgresql.conf]
    env: [{name: EDITION, value: first}]
    ports: [{name: sql, containerPort: 5432}]
    resources: *resources
    readinessProbe: {exec: {command: [pg_isready, -h, /run/postgresql, -U, app]}, periodSeconds: 1, timeoutSeconds: 30}
    livenessProbe: {exec: {command: [pg_isready, -h, /run/postgresql, -U, app]}, periodSeconds: 1, timeoutSeconds: 30, failureThreshold: 30}
    volumeMounts:
    - {name: data, mountPath: /data}
    - {name: config, mountPath: /etc/postgresql}
    - {name: run, mountPath: /run/postgresql}
  volumes:
  - {name: data, persistentVolumeClaim: {claimName: postgres}}
  - {name: secret, secret: {secretName: postgres, defaultMode: 0400}}
  - {name: config, configMap: {name: postgres}}
  - {name: run, emptyDir: {medium: Memory}}
`

// postgresKeeps makes a table, has the Pod be recreated by an edit, and reads from the table.
func (n *node) postgresKeeps(images *strings.Replacer) {
	n.t.Helper()
	first := n.awaitReady("postgres")
	n.asksPostgres(images, "make", first, "create table words (word text); insert into words values ('kept') returning word")
	n.apply("postgres.yaml", images.Replace(strings.Replace(postgresManifest, "value: first", "value: second", 1)))
	second := n.await("postgres", "is recreated", func(p *v1.Pod) bool { return p.UID != first.UID && isReady(p) })
	// Not what it says after a kill: "database system was interrupted".
	n.eventually("postgres had ended cleanly", func() error {
		lines := n.logLines(second, "postgres", 0)
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "database system was shut down at") }) {
			return fmt.Errorf("it says %q", lines)
		}
		return nil
	})
	n.asksPostgres(images, "read", second, "select word from words")
}

// asksPostgres has a Pod ask by the address of the server's, and finds one word in the answer.
func (n *node) asksPostgres(images *strings.Replacer, client string, server *v1.Pod, query string) {
	n.t.Helper()
	n.apply(client+".yaml", images.Replace(fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  restartPolicy: Never
  containers:
  - name: psql
    image: postgres
    command: [psql, -h, %s, -U, app, -d, postgres, -v, ON_ERROR_STOP=1, -qtAc, %q]
    securityContext: {runAsUser: 999, runAsNonRoot: true}
    env: [{name: PGPASSWORD, valueFrom: {secretKeyRef: {name: postgres, key: password}}}]
`, client, server.Status.PodIP, query)))
	pod := n.await(client, "has ended", func(p *v1.Pod) bool { return p.Status.Phase == v1.PodSucceeded || p.Status.Phase == v1.PodFailed })
	if lines := n.logLines(pod, "psql", 0); pod.Status.Phase != v1.PodSucceeded || !slices.Equal(lines, []string{"kept"}) {
		n.t.Fatalf("%s is %s and says %q", client, pod.Status.Phase, lines)
	}
	n.remove(client + ".yaml")
}
