package node

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/network"
)

// hostname is the name the Pod's processes see: the node's own on its network.
func (n *Node) hostname(pod *v1.Pod) (string, error) {
	if pod.Spec.HostNetwork {
		return os.Hostname()
	}
	name, _, err := network.Hostname(pod, n.DNS.Domain)
	return name, err
}

// writeEtc writes the files that name the Pod and its neighbours, and answers what of its DNS settings was left out. hosts is
// empty until writeHosts is called: containers may have it mounted before the Pod has an address.
func (n *Node) writeEtc(pod *v1.Pod) (warnings []string, err error) {
	var resolv []byte
	if n.ResolvConf != "" {
		if resolv, err = os.ReadFile(n.ResolvConf); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read the node's resolv.conf: %w", err)
		}
	}
	resolv, warnings = network.ResolvConf(pod, resolv, n.DNS)
	name, err := n.hostname(pod)
	if err != nil {
		return nil, err
	}
	for file, content := range map[string][]byte{"hosts": nil, "hostname": []byte(name + "\n"), "resolv.conf": resolv} {
		if err := writeFile(n.etcFile(pod, file), content, 0o644); err != nil {
			return nil, err
		}
	}
	return warnings, nil
}

// writeHosts writes the file that names the Pod by its addresses.
func (n *Node) writeHosts(pod *v1.Pod, ips []netip.Addr) error {
	hosts, err := os.ReadFile("/etc/hosts")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the node's hosts: %w", err)
	}
	return writeFile(n.etcFile(pod, "hosts"), n.DNS.Hosts(pod, ips, hosts), 0o644)
}
