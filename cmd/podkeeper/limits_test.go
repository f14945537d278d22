package main

import (
	"fmt"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

// limitsFile is a manifest of a LimitRange for containers.
func limitsFile(item string) string {
	return "apiVersion: v1\nkind: LimitRange\nmetadata: {name: limits}\nspec: {limits: [{type: Container, " + item + "}]}\n"
}

// TestLimitRanges has Pods of files get what a LimitRange gives, and be held to it when they begin.
func TestLimitRanges(t *testing.T) {
	t.Parallel()
	n := launch(t)
	const tells = "echo $LIMIT; " + forever
	asks := func(name, more string) string {
		return simple(name, tells) + "    env: [{name: LIMIT, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}]\n" + more
	}
	n.apply("limits.yaml", limitsFile("default: {memory: 48Mi}, defaultRequest: {cpu: 10m}, max: {memory: 64Mi}"))
	n.apply("web.yaml", asks("web", ""))
	web := n.awaitReady("web")
	n.says(web, "app", "48")
	if got := n.podLimit(web); got != fmt.Sprint(48<<20) {
		t.Errorf("the limit of its cgroup is %s", got)
	}
	if c := web.Spec.Containers[0].Resources; c.Requests.Cpu().String() != "10m" || web.Annotations["kubernetes.io/limit-ranger"] != "LimitRanger plugin set: cpu, memory request for container app; memory limit for container app" {
		t.Errorf("it was given %+v, and tells %v", c, web.Annotations)
	}
	const large = "    resources: {limits: {memory: 128Mi}}\n"
	n.apply("large.yaml", asks("large", large))
	n.heldFor("large", "LimitRanger", "maximum memory usage per Container is 64Mi, but limit is 128Mi")
	n.apply("claims.yaml", "apiVersion: v1\nkind: LimitRange\nmetadata: {name: claims}\nspec: {limits: [{type: PersistentVolumeClaim, max: {storage: 1Gi}}]}\n")
	n.apply("data.yaml", "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 2Gi}}}\n---\n"+
		simple("data", forever, "  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]"))
	n.heldFor("data", "LimitRanger", `persistentvolumeclaims "data" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi`)
	n.apply("web.yaml", asks("web", large))
	n.eventually("the edit is told to be mended", func() error {
		m, err := n.client().Manifests(t.Context())
		if err != nil {
			return err
		}
		for _, r := range m.Refused {
			if r.Name == "web" && r.Kept && r.Reason == "maximum memory usage per Container is 64Mi, but limit is 128Mi" {
				return nil
			}
		}
		return fmt.Errorf("it is not: %+v", m.Refused)
	})
	n.kill()
	n.restart()
	n.apply("limits.yaml", limitsFile("min: {memory: 100Mi}"))
	n.says(n.awaitReady("large"), "app", "128")
	after := n.await("web", "is another one", func(p *v1.Pod) bool { return isReady(p) && p.UID != web.UID })
	n.says(after, "app", "128")
	n.apply("limits.yaml", limitsFile("max: {memory: 64Mi}"))
	n.apply("late.yaml", asks("late", large))
	n.heldFor("late", "LimitRanger", "maximum memory usage per Container is 64Mi, but limit is 128Mi")
	n.remove("limits.yaml")
	n.remove("claims.yaml")
	n.awaitReady("late")
	n.awaitReady("data")
	for name, uid := range map[string]string{"web": string(after.UID), "large": ""} {
		if p := n.awaitReady(name); uid != "" && string(p.UID) != uid || containerStatus(p, "app").RestartCount != 0 {
			t.Errorf("%s was ended by another range", name)
		}
	}
}

func TestLimitRangesOfAnAPI(t *testing.T) {
	t.Parallel()
	k := launch(t).kubectl()
	k.write("limits.yaml", limitsFile("max: {cpu: 1}, default: {cpu: 500m}, defaultRequest: {cpu: 100m}")+
		"---\napiVersion: v1\nkind: LimitRange\nmetadata: {name: claims}\nspec: {limits: [{type: PersistentVolumeClaim, max: {storage: 1Gi}}]}\n")
	k.write("wrong.yaml", strings.Replace(limitsFile("min: {cpu: 2}, max: {cpu: 1}"), "name: limits", "name: wrong", 1))
	k.write("web.yaml", simple("web", forever))
	k.write("large.yaml", simple("large", forever)+"    resources: {limits: {cpu: 2}}\n")
	k.write("odd.yaml", simple("odd", forever)+"    resources: {requests: {cpu: 600m}}\n")
	k.write("data.yaml", "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 2Gi}}}\n")
	k.all(
		row{"apply -f limits.yaml", `limitrange/limits created
			limitrange/claims created`},
		row{"create -f wrong.yaml", `error: ^The LimitRange "wrong" is invalid:
			spec.limits\[0\].min\[cpu\]: Invalid value: "2": min value 2 is greater than max value 1`},
		row{"get limitrange", `^NAME +CREATED AT
			^limits +20`},
		row{"describe limits limits", `^Container +cpu +- +1 +100m +500m +-`},
		row{"create -f web.yaml --dry-run=server -o jsonpath={.spec.containers[0].resources.limits.cpu}", "^500m$"},
		row{"create -f web.yaml", "pod/web created"},
		row{"get pod web -o jsonpath={.spec.containers[0].resources.requests.cpu}", "^100m$"},
		row{"get pod web -o jsonpath='{.metadata.annotations.kubernetes\\.io/limit-ranger}'", "^LimitRanger plugin set: cpu request for container app; cpu limit for container app$"},
		row{"create -f large.yaml", `error: ^Error from server \(Forbidden\): error when creating "large.yaml": pods "large" is forbidden: maximum cpu usage per Container is 1, but limit is 2$`},
		row{"create -f odd.yaml", `error: Pod "odd" is invalid: spec.containers\[0\].resources.requests: Invalid value: "600m": must be less than or equal to cpu limit of 500m`},
		row{"create -f data.yaml", `error: ^Error from server \(Forbidden\): error when creating "data.yaml": persistentvolumeclaims "data" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi$`},
		row{"apply -f web.yaml", "pod/web configured"},
		row{"wait --for=condition=Ready pod/web", "condition met"},
		row{"patch pod web --subresource resize -p {\"spec\":{\"containers\":[{\"name\":\"app\",\"resources\":{\"limits\":{\"cpu\":\"2\"}}}]}}", `error: pods "web" is forbidden: maximum cpu usage per Container is 1, but limit is 2$`},
		row{"delete limits --all", `limitrange "limits" deleted`},
		row{"create -f large.yaml", "pod/large created"},
		row{"label pod web seen=1", "pod/web labeled"},
		row{"get pod web -o jsonpath={.spec.containers[0].resources.limits.cpu}", "^500m$"},
	)
}
