package main

import (
	"fmt"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func quotaFile(hard string) string {
	return "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: q}\nspec: {hard: {" + hard + "}}\n"
}

// TestQuotas has Pods of files wait for a quota, begin when there is room, and run on whatever it is.
func TestQuotas(t *testing.T) {
	t.Parallel()
	n := launch(t)
	asking := func(name, cpu string) string {
		return simple(name, forever) + "    resources: {requests: {cpu: " + cpu + "}}\n"
	}
	n.apply("quota.yaml", quotaFile("requests.cpu: 200m, count/deployments.apps: 1"))
	n.apply("first.yaml", asking("first", "100m"))
	first := n.awaitReady("first")
	n.apply("second.yaml", asking("second", "150m"))
	const second = "exceeded quota: q, requested: requests.cpu=150m, used: requests.cpu=100m, limited: requests.cpu=200m"
	n.heldFor("second", "ResourceQuota", second)
	n.apply("silent.yaml", simple("silent", forever))
	n.heldFor("silent", "ResourceQuota", "failed quota: q: must specify requests.cpu for: app")
	n.apply("limits.yaml", limitsFile("defaultRequest: {cpu: 10m}"))
	n.awaitReady("silent")
	n.kill()
	n.restart()
	n.heldFor("second", "ResourceQuota", "exceeded quota: q, requested: requests.cpu=150m, used: requests.cpu=110m, limited: requests.cpu=200m")
	n.apply("quota.yaml", quotaFile("requests.cpu: 300m"))
	n.awaitReady("second")
	n.apply("quota.yaml", quotaFile("pods: 0"))
	n.apply("third.yaml", asking("third", "1m"))
	n.heldFor("third", "ResourceQuota", "exceeded quota: q, requested: pods=1, used: pods=3, limited: pods=0")
	if now := n.awaitReady("first"); now.UID != first.UID || containerStatus(now, "app").RestartCount != 0 {
		t.Error("a Pod was ended by a quota that came later")
	}
	n.apply("quota.yaml", quotaFile("pods: 3"))
	n.remove("first.yaml")
	n.awaitReady("third")
	n.apply("first.yaml", asking("first", "1m"))
	n.heldFor("first", "ResourceQuota", "exceeded quota: q, requested: pods=1, used: pods=3, limited: pods=3")
	n.remove("quota.yaml")
	n.awaitReady("first")
}

// TestQuotasOfAnAPI has kubectl and client-go be held to a quota, beside Pods of files, which count there.
func TestQuotasOfAnAPI(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("file.yaml", simple("file", forever)+"    resources: {requests: {cpu: 100m, memory: 16Mi}}\n")
	n.awaitReady("file")
	k := n.kubectl()
	k.write("quota.yaml", quotaFile("requests.cpu: 250m, limits.cpu: 1, pods: 3, configmaps: 4, requests.storage: 1Gi, requests.nvidia.com/gpu: 1, count/deployments.apps: 2"))
	k.write("wrong.yaml", quotaFile("requests.cpu: -1, cows: 1"))
	pod := func(name, resources string) string {
		return simple(name, forever) + "    resources: {" + resources + "}\n"
	}
	k.write("small.yaml", pod("small", "requests: {cpu: 100m}, limits: {cpu: 200m}"))
	k.write("large.yaml", pod("large", "requests: {cpu: 100m}, limits: {cpu: 200m}"))
	k.write("silent.yaml", pod("silent", "requests: {cpu: 10m}"))
	k.write("data.yaml", "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 2Gi}}}\n")
	k.all(
		row{"create -f wrong.yaml", `error: spec.hard\[requests.cpu\]: Invalid value: "-1": must be greater than or equal to 0
			spec.hard\[cows\]: Invalid value: "cows": must be a standard resource`},
		row{"create -f quota.yaml", "resourcequota/q created"},
		row{"get quota", `^NAME +REQUEST +LIMIT +AGE
			^q +configmaps: 1/4, count/deployments.apps: 0/2, pods: 1/3, requests.cpu: 100m/250m, requests.nvidia.com/gpu: 0/1, requests.storage: 0/1Gi +limits.cpu: 0/1 +[0-9]+s`},
		row{"create -f small.yaml --dry-run=server", "created .server dry run."},
		row{"create -f small.yaml", "pod/small created"},
		row{"describe quota q", `^Name: +q
			^Resource +Used +Hard
			^limits.cpu +200m +1
			^pods +2 +3
			^requests.cpu +200m +250m`},
		row{"create -f large.yaml", `error: ^Error from server \(Forbidden\): error when creating "large.yaml": pods "large" is forbidden: exceeded quota: q, requested: requests.cpu=100m, used: requests.cpu=200m, limited: requests.cpu=250m$`},
		row{"create -f silent.yaml", `error: ^Error from server \(Forbidden\): error when creating "silent.yaml": pods "silent" is forbidden: failed quota: q: must specify limits.cpu for: app$`},
		row{"create -f data.yaml", `error: ^Error from server \(Forbidden\): error when creating "data.yaml": persistentvolumeclaims "data" is forbidden: exceeded quota: q, requested: requests.storage=2Gi, used: requests.storage=0, limited: requests.storage=1Gi$`},
		row{"patch pod small --subresource resize -p {\"spec\":{\"containers\":[{\"name\":\"app\",\"resources\":{\"requests\":{\"cpu\":\"200m\"}}}]}}", `error: pods "small" is forbidden: exceeded quota: q, requested: requests.cpu=100m, used: requests.cpu=200m, limited: requests.cpu=250m$`},
		row{"create cm a", "configmap/a created"},
		row{"describe ns default", `(?s)Resource Quotas.*configmaps +2 +4`},
		row{"patch quota q --type=merge -p {\"spec\":{\"hard\":{\"configmaps\":\"2\"}}}", "resourcequota/q patched"},
		row{"create cm b", `error: ^error: failed to create configmap: configmaps "b" is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=2, limited: configmaps=2$`},
		row{"delete cm a", "deleted"},
		row{"create cm b", "configmap/b created"},
		row{"create quota best --hard=pods=1 --scopes=BestEffort", "resourcequota/best created"},
		row{"create quota odd --hard=cpu=1 --scopes=BestEffort", `error: spec.scopes: Invalid value: .*: unsupported scope applied to resource`},
	)
	n.awaitReady("small")
	n.apply("file2.yaml", pod("file2", "requests: {cpu: 100m}, limits: {cpu: 100m}"))
	n.heldFor("file2", "ResourceQuota", "exceeded quota: q, requested: requests.cpu=100m, used: requests.cpu=200m, limited: requests.cpu=250m")
	k.all(row{"delete pod small --now", "deleted"})
	n.awaitReady("file2")
	client, ctx := k.clientset(), t.Context()
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "made-"}, Spec: v1.PodSpec{Containers: []v1.Container{{Name: "app", Image: image, Resources: v1.ResourceRequirements{
		Limits: v1.ResourceList{v1.ResourceCPU: resource.MustParse("60m")},
	}}}}}
	_, err := client.CoreV1().Pods("default").Create(ctx, p, metav1.CreateOptions{})
	if !errors.IsForbidden(err) {
		t.Errorf("beyond the quota: %v", err)
	}
	n.eventually("the quota tells what is used", func() error {
		q, err := client.CoreV1().ResourceQuotas("default").Get(ctx, "q", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if used := q.Status.Used[v1.ResourceRequestsCPU]; used.String() != "200m" {
			return fmt.Errorf("it is %s", &used)
		}
		return nil
	})
	q, err := client.CoreV1().ResourceQuotas("default").Get(ctx, "q", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	q.Spec.Hard[v1.ResourceRequestsCPU] = resource.MustParse("260m")
	if _, err := client.CoreV1().ResourceQuotas("default").Update(ctx, q, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Pods("default").Create(ctx, p, metav1.CreateOptions{}); err != nil {
		t.Errorf("within the larger quota: %v", err)
	}
}
