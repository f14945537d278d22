package network

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// What resolvers, and so Kubernetes' validation, allow in a resolv.conf.
const (
	maxServers     = 3
	maxSearches    = 32
	maxSearchChars = 2048
)

// ClusterDNS is the DNS of the cluster a node belongs to, if it does (clusterDNS, clusterDomain).
type ClusterDNS struct {
	Servers []string
	Domain  string
}

// resolver is what a resolv.conf says, options in the order of their first appearance.
type resolver struct{ servers, searches, options []string }

// ResolvConf is a Pod's resolv.conf by its dnsPolicy and dnsConfig. host is the node's own file; nil means that Pods
// are to have no DNS (resolvConf: ""). ClusterFirst, the default policy, means Default on a node without cluster DNS.
// What went over a limit is left out, and named in the warnings, each the message of a DNSConfigForming event.
func ResolvConf(pod *v1.Pod, host []byte, cluster ClusterDNS) (file []byte, warnings []string) {
	r := base(pod, host, cluster)
	if c := pod.Spec.DNSConfig; c != nil {
		r.servers = unique(append(r.servers, c.Nameservers...))
		r.searches = unique(append(r.searches, c.Searches...))
		for _, o := range c.Options {
			option := o.Name
			if o.Value != nil && *o.Value != "" {
				option += ":" + *o.Value
			}
			r.setOption(option)
		}
	}
	warnings = r.cut()
	return r.format(), warnings
}

// base is what the policy gives, before dnsConfig.
func base(pod *v1.Pod, host []byte, cluster ClusterDNS) resolver {
	r := parseResolvConf(host)
	switch policy := pod.Spec.DNSPolicy; {
	case policy == v1.DNSNone:
		return resolver{}
	case policy != v1.DNSDefault && len(cluster.Servers) > 0 && (policy == v1.DNSClusterFirstWithHostNet || !pod.Spec.HostNetwork):
		searches := r.searches
		if cluster.Domain != "" {
			service := "svc." + cluster.Domain
			searches = unique(append([]string{pod.Namespace + "." + service, service, cluster.Domain}, searches...))
		}
		return resolver{servers: slices.Clone(cluster.Servers), searches: searches, options: []string{"ndots:5"}}
	case host == nil:
		return resolver{servers: []string{"127.0.0.1"}, searches: []string{"."}}
	default:
		return r
	}
}

// parseResolvConf reads a file as the kubelet does: the last search line wins, the last of an option's values too.
func parseResolvConf(file []byte) resolver {
	var r resolver
	for line := range strings.Lines(string(file)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		switch fields[0] {
		case "nameserver":
			if len(fields) > 1 {
				r.servers = append(r.servers, fields[1])
			}
		case "search":
			r.searches = nil
			for _, search := range fields[1:] {
				if search != "." {
					r.searches = append(r.searches, strings.TrimSuffix(search, "."))
				}
			}
		case "options":
			for _, option := range fields[1:] {
				r.setOption(option)
			}
		}
	}
	return r
}

// setOption adds an option, or gives the one of its name a new value.
func (r *resolver) setOption(option string) {
	name, _, _ := strings.Cut(option, ":")
	i := slices.IndexFunc(r.options, func(o string) bool { n, _, _ := strings.Cut(o, ":"); return n == name })
	if i < 0 {
		r.options = append(r.options, option)
		return
	}
	r.options[i] = option
}

// cut leaves out what goes over the limits, and says so.
func (r *resolver) cut() (warnings []string) {
	if len(r.servers) > maxServers {
		r.servers = r.servers[:maxServers]
		warnings = append(warnings, fmt.Sprintf("Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: %s", strings.Join(r.servers, " ")))
	}
	all := len(r.searches)
	searches := slices.Clone(r.searches[:min(all, maxSearches)])
	searches = slices.DeleteFunc(searches, func(s string) bool { return len(s) > validation.DNS1123SubdomainMaxLength })
	for len(strings.Join(searches, " ")) > maxSearchChars {
		searches = searches[:len(searches)-1]
	}
	r.searches = searches
	if len(searches) < all {
		warnings = append(warnings, fmt.Sprintf("Search Line limits were exceeded, some search paths have been omitted, the applied search line is: %s", strings.Join(searches, " ")))
	}
	return warnings
}

// format writes the file in containerd's order, which is what a Pod sees under Kubernetes.
func (r *resolver) format() []byte {
	var b strings.Builder
	if len(r.searches) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.searches, " "))
	}
	for _, server := range r.servers {
		fmt.Fprintf(&b, "nameserver %s\n", server)
	}
	if len(r.options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(r.options, " "))
	}
	return []byte(b.String())
}

// unique keeps the first of each.
func unique(in []string) []string {
	var out []string
	for _, s := range in {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
