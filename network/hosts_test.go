package network

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
)

func pod(change func(*v1.PodSpec)) *v1.Pod {
	p := &v1.Pod{}
	p.Name, p.Namespace = "web", "shop"
	if change != nil {
		change(&p.Spec)
	}
	return p
}

const localLines = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n" +
	"fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"

func TestHosts(t *testing.T) {
	t.Parallel()
	ips := []netip.Addr{netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("fd00::5")}
	aliases := []v1.HostAlias{{IP: "1.2.3.4", Hostnames: []string{"a", "b.example"}}, {IP: "::2", Hostnames: []string{"c"}}}
	for sentence, c := range map[string]struct {
		pod    *v1.Pod
		domain string
		want   string
	}{
		"every address gets the pod's name": {
			pod(nil), "cluster.local", "# Kubernetes-managed hosts file.\n" + localLines + "10.0.0.5\tweb\nfd00::5\tweb\n",
		},
		"a subdomain makes a full name, before the short one": {
			pod(func(s *v1.PodSpec) { s.Hostname = "h"; s.Subdomain = "sub" }), "cluster.local",
			"# Kubernetes-managed hosts file.\n" + localLines +
				"10.0.0.5\th.sub.shop.svc.cluster.local\th\nfd00::5\th.sub.shop.svc.cluster.local\th\n",
		},
		"without a cluster domain the full name ends at svc": {
			pod(func(s *v1.PodSpec) { s.Subdomain = "sub" }), "",
			"# Kubernetes-managed hosts file.\n" + localLines + "10.0.0.5\tweb.sub.shop.svc\tweb\nfd00::5\tweb.sub.shop.svc\tweb\n",
		},
		"hostnameOverride has no domain": {
			pod(func(s *v1.PodSpec) { s.HostnameOverride = new("over.ride"); s.Subdomain = "sub" }), "cluster.local",
			"# Kubernetes-managed hosts file.\n" + localLines + "10.0.0.5\tover.ride\nfd00::5\tover.ride\n",
		},
		"aliases come after an empty line, one line an address": {
			pod(func(s *v1.PodSpec) { s.HostAliases = aliases }), "",
			"# Kubernetes-managed hosts file.\n" + localLines + "10.0.0.5\tweb\nfd00::5\tweb\n" +
				"\n# Entries added by HostAliases.\n1.2.3.4\ta\tb.example\n::2\tc\n",
		},
		"in the host's network it is the host's file": {
			pod(func(s *v1.PodSpec) { s.HostNetwork = true; s.HostAliases = aliases[:1] }), "",
			"# Kubernetes-managed hosts file (host network).\n127.0.0.1 node\n\n# Entries added by HostAliases.\n1.2.3.4\ta\tb.example\n",
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			got := ClusterDNS{Domain: c.domain}.Hosts(c.pod, ips, []byte("127.0.0.1 node\n"))
			if diff := cmp.Diff(c.want, string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestHostname(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 62)
	for sentence, c := range map[string]struct {
		name, domain string
		change       func(*v1.PodSpec)
		want, fqdn   string
		fails        string
	}{
		"the pod's name":                     {name: "web", want: "web"},
		"spec.hostname":                      {change: func(s *v1.PodSpec) { s.Hostname = "h" }, want: "h"},
		"cut to 63 characters":               {name: strings.Repeat("a", 70), want: strings.Repeat("a", 63)},
		"cut, no dash or dot at the end":     {name: long + "-.b", want: long},
		"cut to nothing":                     {name: strings.Repeat("-", 70), fails: "nothing is left"},
		"a subdomain makes an fqdn":          {domain: "c.l", change: func(s *v1.PodSpec) { s.Subdomain = "sub" }, want: "web", fqdn: "web.sub.shop.svc.c.l"},
		"setHostnameAsFQDN":                  {domain: "c.l", change: func(s *v1.PodSpec) { s.Subdomain = "sub"; s.SetHostnameAsFQDN = new(true) }, want: "web.sub.shop.svc.c.l", fqdn: "web.sub.shop.svc.c.l"},
		"setHostnameAsFQDN, no subdomain":    {change: func(s *v1.PodSpec) { s.SetHostnameAsFQDN = new(true) }, want: "web"},
		"setHostnameAsFQDN, 65 characters":   {domain: strings.Repeat("d", 65-len("web.sub.shop.svc.")), change: func(s *v1.PodSpec) { s.Subdomain = "sub"; s.SetHostnameAsFQDN = new(true) }, fails: "has 65 characters"},
		"setHostnameAsFQDN, 64 will do":      {domain: strings.Repeat("d", 64-len("web.sub.shop.svc.")), change: func(s *v1.PodSpec) { s.Subdomain = "sub"; s.SetHostnameAsFQDN = new(true) }, want: "web.sub.shop.svc." + strings.Repeat("d", 47), fqdn: "web.sub.shop.svc." + strings.Repeat("d", 47)},
		"hostnameOverride wins, has no fqdn": {change: func(s *v1.PodSpec) { s.HostnameOverride = new("o.x"); s.Hostname = "h"; s.Subdomain = "sub" }, want: "o.x"},
		"hostnameOverride, 65 characters":    {change: func(s *v1.PodSpec) { s.HostnameOverride = new(strings.Repeat("o", 65)) }, fails: "has 65 characters"},
		"a hostname that is no label":        {change: func(s *v1.PodSpec) { s.Hostname = "A_b" }, fails: `hostname "A_b"`},
		"a subdomain that is no label":       {change: func(s *v1.PodSpec) { s.Subdomain = "a.b" }, fails: `subdomain "a.b"`},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			p := pod(c.change)
			if c.name != "" {
				p.Name = c.name
			}
			name, fqdn, err := Hostname(p, c.domain)
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("got %v, want %q", err, c.fails)
				}
				return
			}
			if err != nil || name != c.want || fqdn != c.fqdn {
				t.Errorf("got %q, %q, %v; want %q, %q", name, fqdn, err, c.want, c.fqdn)
			}
		})
	}
}

func TestResolvConf(t *testing.T) {
	t.Parallel()
	host := "# the node's\nnameserver 9.9.9.9\nsearch old.example\nsearch example.com. . example.org\noptions ndots:2 rotate\noptions ndots:3\n"
	asHost := "search example.com example.org\nnameserver 9.9.9.9\noptions ndots:3 rotate\n"
	cluster := ClusterDNS{Servers: []string{"10.96.0.10"}, Domain: "cluster.local"}
	inCluster := "search shop.svc.cluster.local svc.cluster.local cluster.local example.com example.org\nnameserver 10.96.0.10\noptions ndots:5\n"
	policy := func(p v1.DNSPolicy, hostNetwork bool) *v1.Pod {
		return pod(func(s *v1.PodSpec) { s.DNSPolicy = p; s.HostNetwork = hostNetwork })
	}
	withConfig := func(p v1.DNSPolicy, c v1.PodDNSConfig) *v1.Pod {
		return pod(func(s *v1.PodSpec) { s.DNSPolicy = p; s.DNSConfig = &c })
	}
	for sentence, c := range map[string]struct {
		pod     *v1.Pod
		cluster ClusterDNS
		noHost  bool
		want    string
	}{
		"Default is the host's, put in order":     {policy(v1.DNSDefault, false), cluster, false, asHost},
		"Default, and the node is to have no DNS": {policy(v1.DNSDefault, false), cluster, true, "search .\nnameserver 127.0.0.1\n"},
		"ClusterFirst":                                          {policy(v1.DNSClusterFirst, false), cluster, false, inCluster},
		"no policy means ClusterFirst":                          {policy("", false), cluster, false, inCluster},
		"ClusterFirst in the host's network is Default":         {policy(v1.DNSClusterFirst, true), cluster, false, asHost},
		"ClusterFirstWithHostNet":                               {policy(v1.DNSClusterFirstWithHostNet, true), cluster, false, inCluster},
		"ClusterFirst without cluster DNS is Default, silently": {policy(v1.DNSClusterFirst, false), ClusterDNS{}, false, asHost},
		"ClusterFirst without a domain keeps the host's":        {policy(v1.DNSClusterFirst, false), ClusterDNS{Servers: []string{"1.1.1.1"}}, false, "search example.com example.org\nnameserver 1.1.1.1\noptions ndots:5\n"},
		"None alone is empty":                                   {policy(v1.DNSNone, false), cluster, false, ""},
		"None is dnsConfig only": {
			withConfig(v1.DNSNone, v1.PodDNSConfig{Nameservers: []string{"1.1.1.1"}, Searches: []string{"a"}, Options: []v1.PodDNSConfigOption{{Name: "edns0"}, {Name: "ndots", Value: new("1")}}}),
			cluster, false, "search a\nnameserver 1.1.1.1\noptions edns0 ndots:1\n",
		},
		"dnsConfig is added, without repetitions, and its options win": {
			withConfig(v1.DNSDefault, v1.PodDNSConfig{Nameservers: []string{"9.9.9.9", "1.1.1.1"}, Searches: []string{"example.org", "a"}, Options: []v1.PodDNSConfigOption{{Name: "ndots", Value: new("1")}, {Name: "edns0"}}}),
			cluster, false, "search example.com example.org a\nnameserver 9.9.9.9\nnameserver 1.1.1.1\noptions ndots:1 rotate edns0\n",
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			file := []byte(host)
			if c.noHost {
				file = nil
			}
			got, warnings := ResolvConf(c.pod, file, c.cluster)
			if diff := cmp.Diff(c.want, string(got)); diff != "" || warnings != nil {
				t.Errorf("%s%q", diff, warnings)
			}
		})
	}
}

func TestResolvConfLimits(t *testing.T) {
	t.Parallel()
	numbered := func(n, length int) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprintf("s%0*d", length-1, i))
		}
		return out
	}
	for sentence, c := range map[string]struct {
		servers, searches []string
		left, leftSearch  int
		warning           string
	}{
		"three servers are possible":                    {servers: numbered(3, 4), left: 3},
		"a fourth server is left out":                   {servers: numbered(4, 4), left: 3, warning: "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: s000 s001 s002"},
		"32 search paths are possible":                  {searches: numbered(32, 3), leftSearch: 32},
		"a 33rd is left out":                            {searches: numbered(33, 3), leftSearch: 32, warning: "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: s00 s01"},
		"a path of 253 characters is possible":          {searches: numbered(1, 253), leftSearch: 1},
		"one of 254 is left out":                        {searches: numbered(1, 254), leftSearch: 0, warning: "Search Line limits were exceeded"},
		"2048 characters in all: the last are left out": {searches: numbered(11, 200), leftSearch: 10, warning: "Search Line limits were exceeded"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			p := pod(func(s *v1.PodSpec) {
				s.DNSPolicy = v1.DNSNone
				s.DNSConfig = &v1.PodDNSConfig{Nameservers: c.servers, Searches: c.searches}
			})
			got, warnings := ResolvConf(p, nil, ClusterDNS{})
			r := parseResolvConf(got)
			if len(r.servers) != c.left || len(r.searches) != c.leftSearch {
				t.Errorf("got %d servers and %d searches, want %d and %d", len(r.servers), len(r.searches), c.left, c.leftSearch)
			}
			if joined := strings.Join(warnings, "|"); (c.warning == "") != (joined == "") || !strings.HasPrefix(joined, c.warning) {
				t.Errorf("got warnings %q, want %q", joined, c.warning)
			}
		})
	}
}

func FuzzResolvConf(f *testing.F) {
	f.Add([]byte("nameserver 1.1.1.1\nsearch a b\noptions ndots:5"))
	f.Fuzz(func(t *testing.T, host []byte) {
		once, _ := ResolvConf(pod(func(s *v1.PodSpec) { s.DNSPolicy = v1.DNSDefault }), append([]byte{}, host...), ClusterDNS{})
		r := parseResolvConf(once)
		if len(r.servers) > maxServers || len(r.searches) > maxSearches {
			t.Errorf("over the limits: %q", once)
		}
	})
}
