package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// buildAPI builds what answers kubectl, when the first test asks. It is kubectl, too, of the version that go.mod names.
var buildAPI = sync.OnceValues(func() (string, error) {
	if built := os.Getenv("PODKEEPER_TEST_API"); built != "" {
		return built, nil
	}
	path := filepath.Join(labDir, "podkeeper-api")
	release, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes").Output()
	if err != nil {
		return "", fmt.Errorf("find the version of Kubernetes: %w", err)
	}
	build := exec.Command("go", "build", "-ldflags", "-s -w -X k8s.io/component-base/version.gitVersion="+strings.TrimSpace(string(release)), "-o", path, "../podkeeper-api")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build podkeeper-api: %w: %s", err, out)
	}
	return path, nil
})

var kubectlAddresses atomic.Int32

// kubectl is a node's API, and kubectl to ask it with: podkeeper-api's own, or the one that PODKEEPER_TEST_KUBECTL names.
type kubectl struct {
	*node
	command []string
	dir     string // it runs in
}

// kubectl starts the node's agent anew, with the API.
func (n *node) kubectl() *kubectl {
	n.t.Helper()
	api, err := buildAPI()
	if errors.Is(err, exec.ErrNotFound) {
		n.t.Skip("there is no Go to build podkeeper-api with, and PODKEEPER_TEST_API names none")
	} else if err != nil {
		n.t.Fatal(err)
	}
	address := fmt.Sprintf("127.79.%d.%d:7443", os.Getpid()%250+1, kubectlAddresses.Add(1))
	n.stopAgent()
	n.flags = append(n.flags, "--api-address", address, "--api-binary", api)
	n.restart()
	n.eventually("there is a kubeconfig", func() error { _, err := os.Stat(n.path("root", "kubeconfig")); return err })
	k := &kubectl{node: n, command: []string{api, "kubectl"}, dir: n.t.TempDir()}
	if other := os.Getenv("PODKEEPER_TEST_KUBECTL"); other != "" {
		k.command = []string{other}
	}
	return k
}

// cmd is a command of kubectl: a line of words, in which ' holds one together.
func (k *kubectl) cmd(ctx context.Context, line string) *exec.Cmd {
	args := append(append([]string{}, k.command[1:]...), words(line)...)
	cmd := exec.CommandContext(ctx, k.command[0], args...)
	cmd.Dir = k.dir
	cmd.Env = append(os.Environ(), "KUBECONFIG="+k.path("root", "kubeconfig"), "HOME="+k.dir, "KUBECTL_INTERACTIVE_DELETE=false")
	return cmd
}

var word = regexp.MustCompile(`'[^']*'|[^\s']+`)

func words(line string) (all []string) {
	glued := false
	for _, at := range word.FindAllStringIndex(line, -1) {
		w := strings.Trim(line[at[0]:at[1]], "'")
		if glued = at[0] > 0 && line[at[0]-1] != ' '; glued && len(all) > 0 {
			all[len(all)-1] += w
			continue
		}
		all = append(all, w)
	}
	return all
}

// run runs a command until its end, and answers what it says.
func (k *kubectl) run(line string, stdin ...string) (string, error) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), patience)
	defer cancel()
	cmd := k.cmd(ctx, line)
	cmd.Stdin = strings.NewReader(strings.Join(stdin, ""))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// row is a command, and what it says: each line of want is a regular expression that one of its lines matches. It fails where
// want begins with "error: ".
type row struct{ command, want string }

// all runs commands, one after another.
func (k *kubectl) all(rows ...row) {
	k.t.Helper()
	for _, r := range rows {
		begun := time.Now()
		command, stdin, _ := strings.Cut(r.command, " <<< ")
		out, err := k.run(command, stdin)
		want, fails := strings.CutPrefix(r.want, "error: ")
		if fails != (err != nil) {
			k.t.Errorf("kubectl %s: %v after %v: %s", r.command, err, time.Since(begun), out)
			continue
		}
		for line := range strings.Lines(want) {
			if ok, err := regexp.MatchString("(?m)"+strings.TrimSpace(line), out); err != nil || !ok {
				k.t.Errorf("kubectl %s says\n%s\nwant %s (%v)", r.command, out, line, err)
			}
		}
	}
}

// write writes a file that commands name.
func (k *kubectl) write(name, text string) {
	k.t.Helper()
	if err := os.WriteFile(filepath.Join(k.dir, name), []byte(text), 0o600); err != nil {
		k.t.Fatal(err)
	}
}

// web is a Pod that a command can be run in, with a page at port 8080.
func web(name string) string {
	return strings.Replace(simple(name, "mkdir -p /www; echo page > /www/index.html; httpd -p 8080 -h /www; echo began; "+forever), "metadata: {", "metadata: {labels: {app: web}, ", 1)
}

func TestKubectlReads(t *testing.T) {
	t.Parallel()
	k := launch(t).kubectl()
	k.apply("file.yaml", web("file"))
	k.awaitReady("file")
	k.all(
		row{"get pods", `NAME +READY +STATUS +RESTARTS +AGE
			file +1/1 +Running +0 +\d+s`},
		row{"get pods -o wide", `IP +NODE +NOMINATED NODE +READINESS GATES
			file .* testnode +<none> +<none>`},
		row{"get po file -o yaml", "podkeeper/manifest: .*/file.yaml"},
		row{"get pod/file -o json", `"phase": "Running"`},
		row{"get pod file -o jsonpath={.status.phase}", "^Running$"},
		row{"get pods -o custom-columns=N:.metadata.name,P:.status.phase", "^file +Running"},
		row{"get pods -o name", "^pod/file$"},
		row{"get pods -l app=web", "^file"},
		row{"get pods -l app!=web", "No resources found"},
		row{"get pods --field-selector status.phase=Running", "^file"},
		row{"get pods --field-selector status.phase!=Running", "No resources found"},
		row{"get pods --field-selector spec.x=1", `error: field label not supported: spec.x`},
		row{"get pods -A --sort-by=.metadata.name", "^default +file"},
		row{"get pods --show-labels", "app=web"},
		row{"get pods -L app", "^file .* web$"},
		row{"get all", "^pod/file"},
		row{"get pod none", `error: Error from server \(NotFound\): pods "none" not found`},
		row{"get deployments", `error: the server doesn't have a resource type "deployments"`},
		row{"get --raw /version", `"gitVersion": "v1\.\d+\.\d+\+podkeeper"`},
		row{"get --raw /readyz", "ok"},
		row{"get namespaces", `^default +Active
			^kube-system +Active
			^kube-public +Active
			^kube-node-lease +Active`},
		row{"get serviceaccounts", "^default"},
		row{"get cm kube-root-ca.crt -o jsonpath={.data}", "BEGIN CERTIFICATE"},
		row{"describe pod file", `^Name: +file
			^Status: +Running
			^  Normal +Started .* Started container`},
		row{"describe node testnode", `^Name: +testnode
			Kubelet Version:
			default +file`},
		row{"get nodes -o wide", `^testnode +Ready +<none> .* containerd://`},
		row{"get node testnode -o jsonpath={.status.capacity.pods}", "110"},
		row{"get leases -n kube-node-lease", "^testnode +testnode"},
		row{"events", "Normal +Started +Pod/file +Started container"},
		row{"events --for pod/file", "Started container"},
		row{"get events --sort-by=.metadata.creationTimestamp", "pod/file"},
		row{"explain pod.spec.containers.image", "FIELD: image <string>"},
		row{"explain pods --recursive", "terminationGracePeriodSeconds"},
		row{"api-resources", `^pods +po +v1 +true +Pod
			^priorityclasses +pc +scheduling.k8s.io/v1 +false +PriorityClass`},
		row{"api-resources --verbs=watch --namespaced -o name", "^pods$"},
		row{"api-versions", "^rbac.authorization.k8s.io/v1$"},
		row{"auth can-i delete pods", "^yes$"},
		row{"auth can-i --list", `^\*\.\* +`},
		row{"auth whoami", "Username +admin"},
		row{"cluster-info", "is running at"},
		row{"version", `Client Version: v1\.\d+\.\d+
			Server Version: v1\.\d+\.\d+`},
		row{"logs file", "^began$"},
		row{"logs file -c app --tail=1 --timestamps", `^\d{4}-\d\d-\d\dT.* began`},
		row{"logs -l app=web --prefix --all-containers", `^\[pod/file/app\] began`},
		row{"logs file --since=1h --limit-bytes=3", "^beg$"},
		row{"logs file --previous", `error: previous terminated container "app" in pod "file" not found`},
		row{"logs file -c none", `error: container none is not valid for pod file`},
		row{"logs none", `error: pods "none" not found`},
		row{"wait --for=condition=Ready pod/file", "pod/file condition met"},
		row{"wait --for=jsonpath={.status.phase}=Running pod/file", "condition met"},
		row{"wait --for=condition=Nothing pod/file --timeout=1s", "error: timed out waiting for the condition"},
		row{"label pod file a=b", `error: pods "file" is forbidden: it comes from the manifest file.yaml:\d+ on the node: edit that file instead`},
		row{"delete pod file", `Warning: pod "file" is started again, for it comes from the manifest file.yaml:\d+ on the node
			pod "file" deleted`},
	)
	k.awaitReady("file")
}

func TestKubectlChanges(t *testing.T) {
	t.Parallel()
	k := launch(t).kubectl()
	k.write("web.yaml", web("web"))
	k.write("other.yaml", web("other"))
	k.write("settings.yaml", fmt.Sprintf(settings, "blue"))
	k.write("wrong.yaml", strings.Replace(web("wrong"), "image:", "imgae:", 1))
	k.write("gated.yaml", simple("gated", forever, "  readinessGates: [{conditionType: example.com/open}]"))
	k.all(
		row{"apply -f web.yaml --dry-run=server", `pod/web created \(server dry run\)`},
		row{"get pods", "No resources found"},
		row{"apply -f web.yaml", "pod/web created"},
		row{"wait --for=condition=Ready pod/web", "condition met"},
	)
	before := k.awaitReady("web")
	k.all(
		row{"apply -f web.yaml", "pod/web unchanged"},
		row{"diff -f web.yaml", ""},
		row{"create -f web.yaml", `error: pods "web" already exists`},
		row{"apply -f wrong.yaml", `error: strict decoding error: unknown field "spec.containers\[0\].imgae"`},
		row{"apply -f wrong.yaml --validate=false", `error: spec.containers\[0\].image: Required value`},
		row{"label pod web tier=front", "pod/web labeled"},
		row{"label pod web tier=back", "error: 'tier' already has a value"},
		row{"label pod web tier=back --overwrite", "pod/web labeled"},
		row{"label pod web tier-", "pod/web unlabeled"},
		row{"annotate pod web note=1", "pod/web annotated"},
		row{`patch pod web -p '{"metadata":{"labels":{"p":"strategic"}}}'`, "pod/web patched"},
		row{`patch pod web --type=merge -p '{"metadata":{"labels":{"p":"merge"}}}'`, "pod/web patched"},
		row{`patch pod web --type=json -p '[{"op":"replace","path":"/metadata/labels/p","value":"json"}]'`, "pod/web patched"},
		row{"get pod web -o jsonpath={.metadata.labels.p}", "^json$"},
		row{`patch pod web -p '{"spec":{"hostname":"x"}}'`, "error: pod updates may not change fields other than"},
		row{"get pod web -o jsonpath={.metadata.generation}", "^1$"},
		row{"apply --server-side -f settings.yaml", "configmap/settings serverside-applied"},
		row{`patch cm settings --type=merge -p '{"data":{"colour":"green"}}' --field-manager=me`, "configmap/settings patched"},
		row{"apply --server-side -f settings.yaml", `error: Apply failed with 1 conflict: conflict with "me"`},
		row{"apply --server-side -f settings.yaml --force-conflicts", "serverside-applied"},
		row{"get cm settings -o yaml --show-managed-fields", "manager: kubectl"},
		row{"replace -f settings.yaml", "configmap/settings replaced"},
		row{"create configmap made --from-literal=a=b", "configmap/made created"},
		row{"create secret generic keys --from-literal=a=b", "secret/keys created"},
		row{"get secret keys -o jsonpath={.data.a}", "^Yg==$"},
		row{"create namespace shop", "namespace/shop created"},
		row{"create namespace shop", `error: namespaces "shop" already exists`},
		row{"get sa,cm -n shop", `serviceaccount/default
			configmap/kube-root-ca.crt`},
		row{"apply -n shop -f web.yaml", "pod/web created"},
		row{"wait -n shop --for=condition=Ready pod/web", "condition met"},
		row{"delete namespace shop", `namespace "shop" deleted`},
		row{"get pods -n shop", "No resources found"},
		row{"get namespace shop", `error: namespaces "shop" not found`},
		row{"delete namespace default", `error: namespaces "default" is forbidden: this namespace may not be deleted`},
		row{"apply -f other.yaml", "pod/other created"},
		row{"delete pods -l app=none", "No resources found"},
		row{"delete pod other --grace-period=0 --force", `pod "other" force deleted`},
		row{"wait --for=delete pod/other", ""},
		row{"delete -f settings.yaml", `configmap "settings" deleted`},
		row{"run once --image=podkeeper.local/demo:v1 --restart=Never -- sh -c 'exit 3'", "pod/once created"},
		row{"wait --for=jsonpath={.status.phase}=Failed pod/once", "condition met"},
		row{"delete pods --all-namespaces --field-selector status.phase=Failed", `pod "once" deleted`},
	)
	if after := k.awaitReady("web"); after.UID != before.UID || containerStatus(after, "app").RestartCount != 0 || containerStatus(after, "app").ContainerID != containerStatus(before, "app").ContainerID {
		t.Errorf("edits of labels and annotations restarted it: %+v", containerStatus(after, "app"))
	}
	k.all(
		row{"get pod web -o name", "pod/web"},
		row{"set image pod/web app=podkeeper.local/demo:v2", "pod/web image updated"},
		row{"wait --for=jsonpath={.status.observedGeneration}=2 pod/web", "condition met"},
		row{"get pod web -o jsonpath={.metadata.generation}", "^2$"},
		row{"delete pod web --now", `pod "web" deleted`},
		row{"apply -f gated.yaml", "pod/gated created"},
		row{"wait --for=condition=ContainersReady pod/gated", "condition met"},
		row{"get pod gated -o wide", `^gated +1/1 +Running .* 0/1$`},
		row{"wait --for=condition=Ready=false pod/gated", "condition met"},
		row{`patch pod gated --subresource=status -p '{"status":{"conditions":[{"type":"example.com/open","status":"True"}]}}'`, "pod/gated patched"},
		row{"wait --for=condition=Ready pod/gated", "condition met"},
		row{"get pod gated -o wide", ` 1/1$`},
		row{"delete pod gated --now", `pod "gated" deleted`},
	)
}

// start begins a command that goes on, and answers what it says and what ends it.
func (k *kubectl) start(line string) (said *syncBuffer, stop func()) {
	k.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := k.cmd(ctx, line)
	said = &syncBuffer{}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		cancel()
		k.t.Fatal(err)
	}
	stop = sync.OnceFunc(func() { cancel(); _ = cmd.Wait() })
	k.t.Cleanup(stop)
	return said, stop
}

// hears waits until a command has said something.
func (k *kubectl) hears(said *syncBuffer, want string) {
	k.t.Helper()
	pattern := regexp.MustCompile("(?m)" + want)
	k.eventually("it says "+want, func() error {
		if text := said.String(); !pattern.MatchString(text) {
			return fmt.Errorf("it says %q", text)
		}
		return nil
	})
}

func TestKubectlTalksToContainers(t *testing.T) {
	t.Parallel()
	k := launch(t).kubectl()
	k.write("web.yaml", web("web"))
	k.write("two.txt", "second\n")
	k.all(
		row{"apply -f web.yaml", "pod/web created"},
		row{"wait --for=condition=Ready pod/web", "condition met"},
		row{"exec web -- sh -c 'echo out; echo err >&2; exit 7'", `error: ^out$
			^err$
			command terminated with exit code 7`},
		row{"exec -i web -c app -- cat <<< typed", "^typed$"},
		row{"exec web -- head -c 5000000 /dev/zero", ""},
		row{"exec none -- true", `error: pods "none" not found`},
		row{"exec web -c none -- true", `error: container none is not valid for pod web`},
		row{"exec web -- none", `error: executable file not found`},
		row{"cp two.txt web:/tmp/copied", ""},
		row{"exec web -- cat /tmp/copied", "^second$"},
		row{"cp web:/www/index.html back.html", ""},
	)
	if back, err := os.ReadFile(filepath.Join(k.dir, "back.html")); err != nil || string(back) != "page\n" {
		t.Errorf("what was copied back is %q: %v", back, err)
	}
	big := strings.Repeat("0123456789abcde\n", 5<<20/16)
	if out, err := k.run("exec -i web -- cat", big); err != nil || out != big {
		t.Errorf("5 MB there and back are %d bytes: %v", len(out), err)
	}
	forward, stop := k.start("port-forward pod/web :8080")
	k.hears(forward, `Forwarding from 127\.0\.0\.1:\d+ -> 8080`)
	port := regexp.MustCompile(`127\.0\.0\.1:(\d+)`).FindStringSubmatch(forward.String())[1]
	for range 3 {
		if page, err := exec.Command("curl", "-s", "--max-time", "10", "http://127.0.0.1:"+port+"/").Output(); err != nil || string(page) != "page\n" {
			t.Errorf("through the port comes %q: %v", page, err)
		}
	}
	stop()
	logs, stop := k.start("logs -f web")
	k.hears(logs, "^began$")
	if _, err := k.run("exec web -- sh -c 'echo more > /proc/1/fd/1'"); err != nil {
		t.Error(err)
	}
	k.hears(logs, "^more$")
	stop()
	k.all(
		row{"run once -i --rm --image=podkeeper.local/demo:v1 --restart=Never --command -- sh -c 'read x; echo got $x' <<< hello", `got hello
			pod "once" deleted`},
		row{"debug web --image=podkeeper.local/demo:v1 -c look --target=app -- sh -c 'ls /proc/1/root/www; sleep 1000'", ""},
	)
	k.eventually("the container looks", func() error {
		out, err := k.run("logs web -c look")
		if err != nil || !strings.Contains(out, "index.html") {
			return fmt.Errorf("%q: %w", out, errors.Join(err, errors.New("it has not looked")))
		}
		return nil
	})
	k.all(
		row{"describe pod web", "Ephemeral Containers:"},
		row{"debug web --image=podkeeper.local/demo:v1 --copy-to=copy --container=app -- sleep 1000", ""},
		row{"wait --for=condition=Ready pod/copy", "condition met"},
		row{"debug node/testnode --image=podkeeper.local/demo:v1 -- sh -c 'ls /host/etc/passwd; sleep 1000'", "Creating debugging pod node-debugger-testnode-"},
	)
	k.eventually("the node is looked at", func() error {
		name, err := k.run("get pods -o name")
		for line := range strings.Lines(name) {
			if strings.Contains(line, "node-debugger") {
				name = strings.TrimSpace(line)
			}
		}
		out, logErr := k.run("logs " + name)
		if err != nil || logErr != nil || !strings.Contains(out, "/host/etc/passwd") {
			return fmt.Errorf("%s says %q: %w", name, out, errors.Join(err, logErr))
		}
		return nil
	})
	k.all(row{"delete pods --all --grace-period=1", `pod "web" deleted`})
}

func TestKubectlWatches(t *testing.T) {
	t.Parallel()
	k := launch(t).kubectl()
	k.write("web.yaml", web("web"))
	k.write("editor", "#!/bin/sh\nsed -i 's/colour: .*/colour: edited/' \"$1\"\n")
	if err := os.Chmod(filepath.Join(k.dir, "editor"), 0o755); err != nil {
		t.Fatal(err)
	}
	k.write("settings.yaml", fmt.Sprintf(settings, "blue"))
	pods, stop := k.start("get pods -w --output-watch-events")
	defer stop()
	k.all(row{"apply -f web.yaml", "created"})
	k.hears(pods, `^ADDED +web`)
	k.hears(pods, `^MODIFIED +web +1/1 +Running`)
	k.all(
		row{"apply -f settings.yaml", "created"},
		row{"delete pod web", `pod "web" deleted`},
	)
	k.hears(pods, `^MODIFIED +web .* Terminating`)
	k.hears(pods, `^DELETED +web`)
	edit := k.cmd(t.Context(), "edit cm settings")
	edit.Env = append(edit.Env, "EDITOR="+filepath.Join(k.dir, "editor"))
	if out, err := edit.CombinedOutput(); err != nil || !strings.Contains(string(out), "configmap/settings edited") {
		t.Errorf("kubectl edit: %s: %v", out, err)
	}
	k.all(row{"get cm settings -o jsonpath={.data.colour}", "^edited$"})
	proxy, stop := k.start("proxy --port=0")
	defer stop()
	k.hears(proxy, `Starting to serve on 127\.0\.0\.1:\d+`)
	port := regexp.MustCompile(`127\.0\.0\.1:(\d+)`).FindStringSubmatch(proxy.String())[1]
	if page, err := exec.Command("curl", "-s", "--max-time", "10", "http://127.0.0.1:"+port+"/api/v1/namespaces/default/configmaps/settings").Output(); err != nil || !strings.Contains(string(page), "edited") {
		t.Errorf("through the proxy comes %q: %v", page, err)
	}
}

func TestKubectlKeepsTheNode(t *testing.T) {
	t.Parallel()
	k := launch(t).kubectl()
	k.write("web.yaml", web("web"))
	k.write("late.yaml", web("late"))
	k.all(
		row{"apply -f web.yaml", "created"},
		row{"wait --for=condition=Ready pod/web", "condition met"},
		row{"top pod", "^web +\\d+m +\\d+Mi"},
		row{"top pod --containers", "^web +app +\\d+m"},
		row{"top node", "^testnode +\\d+m +\\d+% +\\d+Mi"},
		row{"label node testnode disk=fast", "node/testnode labeled"},
		row{"get nodes -l disk=fast", "^testnode"},
		row{"cordon testnode", "node/testnode cordoned"},
		row{"get nodes", "^testnode +Ready,SchedulingDisabled"},
		row{"apply -f late.yaml", "created"},
		row{"get pod late", "^late +0/1 +Pending"},
		row{"describe pod late", "node\\(s\\) were unschedulable"},
		row{"drain testnode --force --ignore-daemonsets --delete-emptydir-data", `evicting pod default/web
			node/testnode drained`},
		row{"get pods", "^late"},
		row{"uncordon testnode", "node/testnode uncordoned"},
		row{"wait --for=condition=Ready pod/late", "condition met"},
		row{"taint node testnode dedicated=x:NoSchedule", "node/testnode tainted"},
		row{"apply -f web.yaml", "created"},
		row{"describe pod web", "had untolerated taint"},
		row{"taint node testnode dedicated-", "node/testnode untainted"},
		row{"wait --for=condition=Ready pod/web", "condition met"},
		row{"delete node testnode", "error: forbidden"},
	)
}

func TestKubectlKnowsOtherKinds(t *testing.T) {
	t.Parallel()
	k := launch(t).kubectl()
	k.write("many.yaml", web("web")+"---\n"+web("other")+fmt.Sprintf(settings, "blue")+ownObjects)
	k.write("fewer.yaml", web("web")+fmt.Sprintf(settings, "blue"))
	k.write("bare.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: none}\n")
	k.write("kustomization.yaml", "resources: [fewer.yaml]\nnamePrefix: my-\nnamespace: shop\n")
	k.all(
		row{"apply -f many.yaml", `pod/web created
			configmap/settings created
			persistentvolumeclaim/data created
			limitrange/limits created
			resourcequota/quota created`},
		row{"wait --for=condition=Ready pod -l app=web", `pod/web condition met
			pod/other condition met`},
		row{"get pvc,limits,quota,sa", "persistentvolumeclaim/data"},
		row{"describe limits", "Name: +limits"},
		row{"describe quota", "Name: +quota"},
		row{"describe pvc data", "^Name: +data"},
		row{"describe cm settings", "blue"},
		row{"describe ns default", "^Status: +Active"},
		row{"describe sa default", "^Name: +default"},
		row{"create priorityclass high --value=1000", "priorityclass.scheduling.k8s.io/high created"},
		row{"get pc", "^high +1000 +false"},
		row{"create role reader --verb=get --resource=pods", "role.rbac.authorization.k8s.io/reader created"},
		row{"create rolebinding readers --role=reader --user=ann", "rolebinding.rbac.authorization.k8s.io/readers created"},
		row{"describe rolebinding readers", "ann"},
		row{"create -o yaml -f - <<< {\"apiVersion\":\"authorization.k8s.io/v1\",\"kind\":\"SubjectAccessReview\",\"spec\":{\"user\":\"ann\",\"resourceAttributes\":{\"verb\":\"get\",\"resource\":\"pods\",\"namespace\":\"default\"}}}", "allowed: true"},
		row{"auth can-i get pods --as ann", "^yes$"},
		row{"auth can-i get pods --as bob", "error: ^no$"},
		row{"get pod web --as ann", "^web"},
		row{"get cm settings --as ann", `error: configmaps "settings" is forbidden: User "ann" cannot get resource "configmaps" in API group "" in the namespace "default"`},
		row{"create quota small --hard=pods=2", "resourcequota/small created"},
		row{"create serviceaccount bot", "serviceaccount/bot created"},
		row{"delete sa bot", `serviceaccount "bot" deleted`},
		row{"explain lease.spec.holderIdentity", "FIELD: holderIdentity"},
		row{"explain priorityclass", "KIND: +PriorityClass"},
		row{"get configmap settings -o go-template={{.data.colour}}", "^blue$"},
		row{"apply -f bare.yaml", `error: no matches for kind "Deployment" in version "apps/v1"`},
		row{"apply -k .", `pod/my-web created`},
		row{"get pods -n shop -o name", "pod/my-web"},
		row{"delete -k .", `pod "my-web" deleted`},
		row{"apply -f fewer.yaml --prune -l app=web --prune-allowlist=core/v1/Pod", "pod/other pruned"},
		row{"replace --force -f fewer.yaml --grace-period=1", `pod/web replaced`},
		row{"wait --for=create pod/web", "condition met"},
		row{"get pods -o jsonpath='{range .items[*]}{.metadata.name}{end}'", "^web$"},
		row{"patch pod web --type=json -p '[{\"op\":\"test\",\"path\":\"/metadata/name\",\"value\":\"x\"}]'", "error: The request is invalid"},
		row{"label pods --all checked=yes", "pod/web labeled"},
		row{"annotate pods -l checked=yes seen=1 --overwrite", "pod/web annotated"},
		row{"get pods --chunk-size=1 -A", "web"},
		row{"get --raw /api/v1/namespaces/default/pods?limit=1", `"kind":"PodList"`},
		row{"get --raw /api/v1/namespaces/default/pods?watch=1&timeoutSeconds=1", `"type":"ADDED"`},
		row{"get --raw /metrics", "error: the server could not find the requested resource"},
		row{"create -f - <<< {\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"generateName\":\"made-\"}}", "configmap/made-.* created"},
		row{"delete cm --all", `configmap "settings" deleted`},
		row{"delete pod web --wait=false", `pod "web" deleted`},
		row{"delete pod web --ignore-not-found", ""},
	)
}

// ownObjects are of kinds that Pods use, and that are kept for clients.
const ownObjects = `---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: LimitRange
metadata: {name: limits}
spec: {limits: [{type: Container, default: {memory: 64Mi}}]}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: quota}
spec: {hard: {pods: "20"}}
`

func TestKubectlOnATerminal(t *testing.T) {
	t.Parallel()
	k := launch(t).kubectl()
	k.write("web.yaml", web("web"))
	k.all(
		row{"apply -f web.yaml", "created"},
		row{"wait --for=condition=Ready pod/web", "condition met"},
	)
	// script gives kubectl a terminal of its own.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	kubectl := k.cmd(ctx, "exec -it web -- sh -c 'tty; until stty size 2>/dev/null | grep 77; do sleep 0.1; done; exit 5'")
	cmd := exec.CommandContext(ctx, "script", "-qefc", "stty rows 33 cols 77; "+quoted(kubectl.Args), "/dev/null")
	cmd.Env, cmd.Dir = kubectl.Env, kubectl.Dir
	out, err := cmd.CombinedOutput()
	if text := string(out); !strings.Contains(text, "/dev/pts/") || !strings.Contains(text, "33 77") || !strings.Contains(text, "exit code 5") {
		t.Errorf("on a terminal it says %q: %v", text, err)
	}
}

func quoted(args []string) string {
	var all []string
	for _, arg := range args {
		all = append(all, "'"+strings.ReplaceAll(arg, "'", `'\''`)+"'")
	}
	return strings.Join(all, " ")
}
