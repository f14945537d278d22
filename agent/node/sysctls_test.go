package node

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
)

func TestSysctls(t *testing.T) {
	t.Parallel()
	n := &Node{UnsafeSysctls: []string{"kernel.msg*", "net.core.somaxconn", "net/ipv4/conf/*"}}
	for sentence, c := range map[string]struct {
		name      string
		pod       v1.PodSpec
		forbidden string
		as        string // as it is set
	}{
		"a safe one is set":                            {name: "kernel.shm_rmid_forced", as: "kernel.shm_rmid_forced"},
		"with slashes, too":                            {name: "net/ipv4/tcp_syncookies", as: "net.ipv4.tcp_syncookies"},
		"one that is allowed":                          {name: "net.core.somaxconn", as: "net.core.somaxconn"},
		"one that a pattern allows":                    {name: "kernel.msgmax", as: "kernel.msgmax"},
		"a name with a dot inside has slashes between": {name: "net/ipv4/conf/eth0.1/forwarding", as: "net.ipv4.conf.eth0/1.forwarding"},
		"another is forbidden":                         {name: "kernel.sem", forbidden: `forbidden sysctl: "kernel.sem" not allowlisted`},
		"the host's is forbidden":                      {name: "vm.swappiness", forbidden: `forbidden sysctl: "vm.swappiness" not allowlisted`},
		"the network's with the host's network":        {name: "net.core.somaxconn", pod: v1.PodSpec{HostNetwork: true}, forbidden: `forbidden sysctl: "net.core.somaxconn" not allowed with host net enabled`},
		"IPC's with the host's":                        {name: "kernel.msgmax", pod: v1.PodSpec{HostIPC: true}, forbidden: `forbidden sysctl: "kernel.msgmax" not allowed with host ipc enabled`},
	} {
		pod := &v1.Pod{Spec: c.pod}
		pod.Spec.SecurityContext = &v1.PodSecurityContext{Sysctls: []v1.Sysctl{{Name: c.name, Value: "7"}}}
		got, err := n.sysctls(pod)
		if c.forbidden != "" {
			var fault *Fault
			if !errors.As(err, &fault) || fault.Reason != SysctlForbidden || err.Error() != c.forbidden {
				t.Errorf("%s: %v, want %s", sentence, err, c.forbidden)
			}
			continue
		}
		if err != nil || got[c.as] != "7" {
			t.Errorf("%s: %v, %v", sentence, got, err)
		}
	}
	own, err := n.sysctls(&v1.Pod{})
	if diff := cmp.Diff(networkSysctls, own); diff != "" || err != nil {
		t.Errorf("of a Pod that asks for none: %v %s", err, diff)
	}
	if host, err := n.sysctls(&v1.Pod{Spec: v1.PodSpec{HostNetwork: true}}); len(host) > 0 || err != nil {
		t.Errorf("of one with the host's network: %v, %v", host, err)
	}
}

func TestCheckUnsafeSysctls(t *testing.T) {
	t.Parallel()
	if err := CheckUnsafeSysctls([]string{"kernel.msg*", "net.core.somaxconn", "fs.mqueue.*", "kernel/shmmax"}); err != nil {
		t.Error(err)
	}
	for _, pattern := range []string{"vm.swappiness", "kernel.*", "*", "net.*.x*"} {
		if err := CheckUnsafeSysctls([]string{pattern}); err == nil || !strings.Contains(err.Error(), pattern) {
			t.Errorf("%s: %v", pattern, err)
		}
	}
}
