package main

import (
	"strings"
	"testing"
)

const review = `{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": "%s", "audiences": ["vault"]}}`

// TestKubectlTokens asks for tokens, and has them reviewed: while what they are for is there, and then.
func TestKubectlTokens(t *testing.T) {
	t.Parallel()
	k := launch(t).kubectl()
	k.apply("web.yaml", strings.Replace(web("web"), "spec:", "spec:\n  automountServiceAccountToken: true", 1))
	k.awaitReady("web")
	k.all(
		row{"exec web -- ls /var/run/secrets/kubernetes.io/serviceaccount", `^ca.crt$
			^namespace$
			^token$`},
		row{"exec web -- cat /var/run/secrets/kubernetes.io/serviceaccount/ca.crt", "BEGIN CERTIFICATE"},
		row{"create serviceaccount builder", "serviceaccount/builder created"},
		row{"create token builder", `^ey\w+\.ey\w+\.[\w-]+$`},
		row{"create token builder --duration 5s", "error: may not specify a duration less than 10 minutes"},
		row{"create token none", `error: serviceaccounts "none" not found`},
		row{"create token builder --bound-object-kind Secret --bound-object-name none", `error: secrets "none" not found`},
		row{"create token builder --bound-object-kind Pod --bound-object-name web", `error: cannot bind token for serviceaccount "builder" to pod running with different serviceaccount name`},
		row{"auth can-i create serviceaccounts --subresource token", "^yes$"},
	)
	token, err := k.run("create token default --duration 20m --audience vault --bound-object-kind Pod --bound-object-name web")
	if err != nil {
		t.Fatal(token, err)
	}
	ask := "create --raw /apis/authentication.k8s.io/v1/tokenreviews -f -"
	of := func(token string) string {
		return ask + " <<< " + strings.Replace(review, "%s", strings.TrimSpace(token), 1)
	}
	k.all(
		row{of(token), `"authenticated":true.*"username":"system:serviceaccount:default:default".*"authentication.kubernetes.io/pod-name":\["web"\].*"audiences":\["vault"\]`},
		row{of("x"), `"error":"invalid bearer token"`},
	)
	other, err := k.run("create token default")
	if err != nil {
		t.Fatal(other, err)
	}
	k.all(row{of(other), `"error":"token audiences .* is invalid for the target audiences`})
	k.remove("web.yaml")
	k.awaitGone("web")
	k.all(row{of(token), `"error":"service account token has been invalidated"`})
}

// TestKubectlServices makes Services, and sees what follows from them; and events by both of their names.
func TestKubectlServices(t *testing.T) {
	t.Parallel()
	k := launch(t).kubectl()
	k.apply("web.yaml", web("web"))
	ip := strings.ReplaceAll(k.awaitReady("web").Status.PodIP, ".", `\.`)
	k.all(
		row{"create service clusterip web --tcp=80:8080", `Warning: podkeeper forwards nothing
			service/web created`},
		row{"get service web", `^web +ClusterIP +10\.96\.\d+\.\d+ +<none> +80/TCP +\d+s`},
		row{"get endpoints web", "^web +" + ip + `:8080 +\d+s`},
		row{"get endpointslices -l kubernetes.io/service-name=web", `^web-\w{5} +IPv4 +8080 +` + ip + ` +\d+s`},
		row{"describe service web", "Endpoints: +" + ip + ":8080"},
		row{"expose pod web --name other --port 80 --target-port 8080 --cluster-ip None", "service/other exposed"},
		row{"get service other", "^other +ClusterIP +None"},
		row{"label service web a=b", "service/web labeled"},
		row{"get endpoints web --show-labels", "a=b"},
		row{`patch service web -p '{"spec":{"clusterIP":"10.96.0.99"}}'`, "error: may not change once set"},
		row{"delete endpoints web", `error: endpoints "web" is forbidden: it follows from a Service and its Pods`},
		row{"create service clusterip away --tcp=80 --clusterip 192.0.2.1", "error: the provided IP .192.0.2.1. is not in the valid range"},
		row{"create service externalname name --external-name example.com", "service/name created"},
		row{"get service name", "^name +ExternalName +<none> +example.com"},
		row{"delete service web", `service "web" deleted`},
		row{"get endpoints,endpointslices -l a=b", "No resources found"},
		row{"get events.events.k8s.io", "Normal +Started +pod/web +Started container"},
		row{"get events.events.k8s.io --field-selector regarding.name=web,reason=Started -o jsonpath={.items[0].note}", "^Started container"},
		row{"get events.events.k8s.io --field-selector involvedObject.name=web", "error: field label not supported: involvedObject.name"},
		row{`create -f - <<< {"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "seen"}, "eventTime": "2026-01-31T12:00:00.000000Z", "type": "Normal", "reason": "Seen", "note": "by an eye", "action": "Look", "reportingController": "example.com/eye", "reportingInstance": "one", "regarding": {"kind": "Pod", "name": "web", "namespace": "default"}}`, "event.events.k8s.io/seen created"},
		row{"get events seen -o jsonpath={.message},{.involvedObject.name}", "^by an eye,web$"},
		row{`patch events.events.k8s.io seen --type merge -p '{"note":"by nobody"}'`, "error: message: Invalid value"},
		row{"annotate events.events.k8s.io seen x=y", "event.events.k8s.io/seen annotated"},
		row{"delete events.events.k8s.io seen", `"seen" deleted`},
		row{"get events seen", "error: not found"},
	)
}
