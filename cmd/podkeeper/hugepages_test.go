package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/cgroups"
)

// reservePages has the kernel set some more huge pages of 2 MiB aside until the end of the test, and answers how many there are.
func reservePages(t *testing.T, more int) int {
	t.Helper()
	const file = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
	number := func() int {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Skipf("this kernel has no huge pages of 2 MiB: %v", err)
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := number()
	if err := os.WriteFile(file, []byte(strconv.Itoa(before+more)), 0o644); err != nil {
		t.Skipf("this host reserves no huge pages: %v", err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(file, []byte(strconv.Itoa(before)), 0o644); err != nil || number() != before {
			t.Errorf("%d huge pages were there before, %d are there now (%v)", before, number(), err)
		}
	})
	now := number()
	if now < before+more {
		t.Skipf("the kernel has found %d of %d huge pages: its memory is in pieces", now-before, more)
	}
	return now
}

// TestHugePages has a container use the pages that it asks for, as a file system and no more of them, while another Pod waits for
// them, and a third for pages of a size that there is not.
func TestHugePages(t *testing.T) {
	t.Parallel()
	pages := reservePages(t, 4)
	n := launch(t)
	pod := func(name, size, asked, script string) string {
		return simple(name, script, "  volumes: [{name: pages, emptyDir: {medium: HugePages}}, {name: small, emptyDir: {medium: HugePages-2Mi, sizeLimit: 2Mi}},",
			"    {name: about, downwardAPI: {items: [{path: pages, resourceFieldRef: {containerName: app, resource: requests.hugepages-"+size+", divisor: 1Mi}}]}}]") +
			fmt.Sprintf("    resources: {limits: {cpu: 100m, memory: 32Mi, hugepages-%s: %s}}\n", size, asked) +
			"    env: [{name: PAGES, valueFrom: {resourceFieldRef: {resource: limits.hugepages-" + size + "}}}]\n" +
			"    volumeMounts: [{name: pages, mountPath: /pages}, {name: small, mountPath: /small}, {name: about, mountPath: /about}]\n"
	}
	n.apply("first.yaml", pod("first", "2Mi", "4Mi", `echo $PAGES $(cat /about/pages)
sed -n 's/^hugetlbfs \(\/[a-z]*\) hugetlbfs rw.*,\(pagesize=[^ ]*\) .*/\1 \2/p' /proc/mounts | sort
fallocate -l 4194304 /small/file 2>/dev/null || echo small is full
rm /small/file
fallocate -l 4194304 /pages/file && echo pages are used
fallocate -l 2097152 /pages/more 2>/dev/null || echo no more
for f in hugetlb/hugetlb.2MB.limit_in_bytes hugetlb/hugetlb.1GB.limit_in_bytes hugetlb.2MB.max hugetlb.1GB.max; do
  [ -e /sys/fs/cgroup/$f ] && echo limit $(cat /sys/fs/cgroup/$f)
done
`+forever))
	first := n.awaitReady("first")
	want := []string{"4194304 4", "/pages pagesize=2M", "/small pagesize=2M,size=2097152", "small is full", "pages are used"}
	if tree, err := cgroups.Open(cgroups.Config{}); err == nil && len(tree.Config().PageSizes) > 0 {
		want = append(want, "no more", "limit 4194304", "limit 0")
	} else {
		t.Logf("limits are not looked at: no hugetlb controller (%v)", err)
	}
	n.says(first, "app", want...)
	if first.Status.QOSClass != v1.PodQOSGuaranteed {
		t.Errorf("its class is %s", first.Status.QOSClass)
	}
	for what, list := range map[string]v1.ResourceList{
		"the Pod's allocatedResources":       first.Status.AllocatedResources,
		"the Pod's resources":                first.Status.Resources.Limits,
		"the container's allocatedResources": containerStatus(first, "app").AllocatedResources,
		"the container's resources":          containerStatus(first, "app").Resources.Limits,
	} {
		if q := list["hugepages-2Mi"]; q.String() != "4Mi" {
			t.Errorf("%s have %s", what, &q)
		}
	}
	held := func(name, message string) {
		t.Helper()
		p := n.await(name, "is held", func(p *v1.Pod) bool { return p.Status.Phase == v1.PodPending && len(p.Status.Conditions) > 0 })
		if c := p.Status.Conditions[0]; c.Type != v1.PodScheduled || c.Status != v1.ConditionFalse || c.Message != message {
			t.Errorf("%s is told %+v, want %q", name, c, message)
		}
	}
	n.apply("second.yaml", pod("second", "2Mi", fmt.Sprintf("%dMi", 2*pages), "fallocate -l 4194304 /pages/file && echo pages are used; "+forever))
	held("second", fmt.Sprintf("0/1 nodes are available: 1 Insufficient hugepages-2Mi. Of hugepages-2Mi it asks for %dMi, and 4Mi of %[1]dMi are taken", 2*pages))
	n.apply("third.yaml", strings.ReplaceAll(pod("third", "4Mi", "4Mi", forever), "medium: HugePages-2Mi", "medium: HugePages-4Mi"))
	held("third", "0/1 nodes are available: 1 Insufficient hugepages-4Mi. Of hugepages-4Mi it asks for 4Mi, and 0 of 0 are taken")
	n.remove("first.yaml")
	n.says(n.awaitReady("second"), "app", "pages are used")
	n.remove("second.yaml")
	n.awaitGone("second")
}
