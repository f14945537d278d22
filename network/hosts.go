package network

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	maxHostname = 63 // of a Pod: what DNS allows a label
	maxKernel   = 64 // of the kernel's hostname

	hostsHeader            = "# Kubernetes-managed hosts file.\n"
	hostsHeaderHostNetwork = "# Kubernetes-managed hosts file (host network).\n"
	hostsLocal             = "127.0.0.1\tlocalhost\n" +
		"::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::0\tip6-localnet\n" +
		"fe00::0\tip6-mcastprefix\n" +
		"fe00::1\tip6-allnodes\n" +
		"fe00::2\tip6-allrouters\n"
	hostsAliases = "\n# Entries added by HostAliases.\n"
)

// Hosts is a Pod's /etc/hosts as the kubelet writes it. hostFile is the node's own, for Pods in its network. With a cluster
// domain, a Pod with a subdomain has that at the end of its name.
func (d ClusterDNS) Hosts(pod *v1.Pod, ips []netip.Addr, hostFile []byte) []byte {
	var b bytes.Buffer
	if pod.Spec.HostNetwork {
		b.WriteString(hostsHeaderHostNetwork)
		b.Write(hostFile)
	} else {
		b.WriteString(hostsHeader + hostsLocal)
		names := shortName(pod)
		if domain := domain(pod, d.Domain); domain != "" {
			names = names + "." + domain + "\t" + names
		}
		for _, ip := range ips {
			fmt.Fprintf(&b, "%s\t%s\n", ip, names)
		}
	}
	if len(pod.Spec.HostAliases) > 0 {
		b.WriteString(hostsAliases)
	}
	for _, alias := range pod.Spec.HostAliases {
		fmt.Fprintf(&b, "%s\t%s\n", alias.IP, strings.Join(alias.Hostnames, "\t"))
	}
	return b.Bytes()
}

// Hostname is the name the kernel is to be given in a Pod's UTS namespace, and the Pod's fully qualified name, ""
// where it has none. It is an error where Kubernetes would not start the Pod: a name that is none, or one of more
// than 64 characters with setHostnameAsFQDN or hostnameOverride.
func Hostname(pod *v1.Pod, clusterDomain string) (name, fqdn string, err error) {
	if override := pod.Spec.HostnameOverride; override != nil {
		if len(*override) > maxKernel {
			return "", "", fmt.Errorf("name pod: hostnameOverride %q has %d characters, at most %d are possible", *override, len(*override), maxKernel)
		}
		return *override, "", nil
	}
	for field, label := range map[string]string{"hostname": pod.Spec.Hostname, "subdomain": pod.Spec.Subdomain} {
		if problems := validation.IsDNS1123Label(label); label != "" && problems != nil {
			return "", "", fmt.Errorf("name pod: %s %q: %s", field, label, strings.Join(problems, "; "))
		}
	}
	name = shortName(pod)
	if name == "" {
		return "", "", fmt.Errorf("name pod: nothing is left of %q when it is cut to %d characters", pod.Name, maxHostname)
	}
	domain := domain(pod, clusterDomain)
	if domain == "" {
		return name, "", nil
	}
	fqdn = name + "." + domain
	if pod.Spec.SetHostnameAsFQDN == nil || !*pod.Spec.SetHostnameAsFQDN {
		return name, fqdn, nil
	}
	if len(fqdn) > maxKernel {
		return "", "", fmt.Errorf("name pod: setHostnameAsFQDN: %s has %d characters, at most %d are possible", fqdn, len(fqdn), maxKernel)
	}
	return fqdn, fqdn, nil
}

// shortName is the Pod's hostname without a domain.
func shortName(pod *v1.Pod) string {
	if pod.Spec.HostnameOverride != nil {
		return *pod.Spec.HostnameOverride
	}
	name := pod.Name
	if pod.Spec.Hostname != "" {
		name = pod.Spec.Hostname
	}
	if len(name) > maxHostname {
		name = strings.TrimRight(name[:maxHostname], "-.")
	}
	return name
}

// domain is where the Pod's name lives: nowhere, without a subdomain.
func domain(pod *v1.Pod, clusterDomain string) string {
	if pod.Spec.Subdomain == "" || pod.Spec.HostnameOverride != nil {
		return ""
	}
	domain := pod.Spec.Subdomain + "." + pod.Namespace + ".svc"
	if clusterDomain == "" {
		return domain
	}
	return domain + "." + clusterDomain
}
