package node

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// networkSysctls of a Pod's own network: every process may bind low ports and ping, as under containerd's CRI
// (enable_unprivileged_ports, enable_unprivileged_icmp).
var networkSysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}

// safeSysctls may be set by any Pod: they are of its own namespaces, and harm no other (kubernetes/kubernetes
// pkg/kubelet/sysctl/safe_sysctls.go, for Linux 5.6 and newer).
var safeSysctls = []string{
	"kernel.shm_rmid_forced",
	"net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports", "net.ipv4.ip_unprivileged_port_start",
	"net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes",
	"net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_notsent_lowat", "net.ipv4.tcp_rmem", "net.ipv4.tcp_slow_start_after_idle",
	"net.ipv4.tcp_syncookies", "net.ipv4.tcp_wmem",
}

// SysctlForbidden is the reason of a Fault about a sysctl that a Pod may not set (kubernetes/kubernetes
// pkg/kubelet/sysctl/allowlist.go).
const SysctlForbidden = "SysctlForbidden"

// sysctlScope is which namespace a sysctl is of.
type sysctlScope string

const (
	ofNetwork sysctlScope = "net"
	ofIPC     sysctlScope = "ipc"
	ofHost    sysctlScope = "host"
)

// scopeOf answers that of a sysctl, or of a pattern that ends in a star (k8s.io/component-helpers node/util/sysctl,
// namespace.go).
func scopeOf(name string) sysctlScope {
	switch {
	case strings.HasPrefix(name, "net."):
		return ofNetwork
	case strings.HasPrefix(name, "kernel.shm"), strings.HasPrefix(name, "kernel.msg"), name == "kernel.sem", strings.HasPrefix(name, "fs.mqueue."):
		return ofIPC
	}
	return ofHost
}

// CheckUnsafeSysctls says what is wrong with sysctls that are to be allowed beyond the safe ones: names, or patterns that end in
// a star, of what a Pod can have for itself (KubeletConfiguration.allowedUnsafeSysctls).
func CheckUnsafeSysctls(patterns []string) error {
	for _, pattern := range patterns {
		name := normalSysctl(pattern)
		if strings.Contains(strings.TrimSuffix(name, "*"), "*") || scopeOf(name) == ofHost {
			return fmt.Errorf("%q is not known to be a Pod's own: must be kernel.shm*, kernel.msg*, kernel.sem, fs.mqueue.* or net.*, or part of one", pattern)
		}
	}
	return nil
}

// sysctls are those of the Pod's own namespaces. The error is a Fault of what it may not set, in the kubelet's words.
func (n *Node) sysctls(pod *v1.Pod) (map[string]string, error) {
	all := map[string]string{}
	if !pod.Spec.HostNetwork {
		maps.Copy(all, networkSysctls)
	}
	if pod.Spec.SecurityContext == nil {
		return all, nil
	}
	for _, s := range pod.Spec.SecurityContext.Sysctls {
		name := normalSysctl(s.Name)
		scope := scopeOf(name)
		forbidden := func(why string) (map[string]string, error) {
			return nil, &Fault{SysctlForbidden, fmt.Errorf("forbidden sysctl: %q %s", s.Name, why)}
		}
		switch {
		case scope == ofHost || !slices.Contains(safeSysctls, name) && !slices.ContainsFunc(n.UnsafeSysctls, func(allowed string) bool { return matches(allowed, name) }):
			return forbidden("not allowlisted")
		case scope == ofNetwork && pod.Spec.HostNetwork:
			return forbidden("not allowed with host net enabled")
		case scope == ofIPC && pod.Spec.HostIPC:
			return forbidden("not allowed with host ipc enabled")
		}
		all[name] = s.Value
	}
	return all, nil
}

func matches(pattern, name string) bool {
	pattern = normalSysctl(pattern)
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return name == pattern
}

// normalSysctl writes a name with dots between its parts. Who writes slashes between them may have dots inside, which become
// slashes (sysctl.d(5)).
func normalSysctl(name string) string {
	first := strings.IndexAny(name, "./")
	if first < 0 || name[first] == '.' {
		return name
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, name)
}
