package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
)

// cniVersion is what the built-in network speaks: plugins of 2021 and later know it.
const cniVersion = "1.0.0"

// configuration is the network for the next Pod, and whether it is the built-in one. The directory is looked at each
// time, its files are read when they have changed.
func (n *Network) configuration() (list *libcni.NetworkConfigList, builtIn bool, err error) {
	files, err := n.confFiles()
	if err != nil {
		return nil, false, err
	}
	if len(files) == 0 {
		list, err := n.builtIn()
		return list, true, err
	}
	print, err := fingerprint(files)
	if err != nil {
		return nil, false, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.current != nil && n.files == print {
		return n.current, false, nil
	}
	list, err = n.firstValid(files)
	if err != nil {
		return nil, false, err
	}
	n.current, n.files = list, print
	return list, false, nil
}

// confFiles are the configurations in ConfDir, by name.
func (n *Network) confFiles() ([]string, error) {
	if n.cfg.ConfDir == "" {
		return nil, nil
	}
	files, err := libcni.ConfFiles(n.cfg.ConfDir, []string{".conf", ".conflist", ".json"})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list network configurations: %w", err)
	}
	slices.Sort(files)
	return files, nil
}

// firstValid reads the first configuration that makes sense. Those that do not are logged, and when none does, that
// is an error: whoever put them there does not want the built-in network.
func (n *Network) firstValid(files []string) (*libcni.NetworkConfigList, error) {
	var errs []error
	for _, file := range files {
		list, err := readConfiguration(file)
		if err == nil {
			return list, nil
		}
		err = fmt.Errorf("read network configuration %s: %w", file, err)
		n.cfg.Log.Warn("network configuration is skipped", "file", file, "error", err)
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func readConfiguration(file string) (*libcni.NetworkConfigList, error) {
	list, err := readList(file)
	if err != nil {
		return nil, err
	}
	if len(list.Plugins) == 0 {
		return nil, errors.New("it has no plugins")
	}
	return list, nil
}

func readList(file string) (*libcni.NetworkConfigList, error) {
	if filepath.Ext(file) == ".conflist" {
		return libcni.NetworkConfFromFile(file)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	plugin, err := libcni.NetworkPluginConfFromBytes(b)
	if err != nil {
		return nil, err
	}
	if plugin.Network.Type == "" {
		return nil, errors.New("it has no type; a list of plugins belongs into a file named *.conflist")
	}
	return libcni.ConfListFromConf(plugin) //nolint:staticcheck // hosts have such files: one plugin, no list
}

// fingerprint changes when a file is added, taken away, replaced or written to.
func fingerprint(files []string) (string, error) {
	var b strings.Builder
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("look at network configuration: %w", err)
		}
		if err == nil {
			fmt.Fprintf(&b, "%q %d %d\n", file, info.ModTime().UnixNano(), info.Size())
		}
	}
	return b.String(), nil
}

// builtIn is the network for hosts without a configuration: a bridge, addresses from host-local, host ports by portmap.
// Masquerading is not among it: the bridge plugin would start iptables several times for each Pod, addRules does it once.
func (n *Network) builtIn() (*libcni.NetworkConfigList, error) {
	b, err := json.Marshal(map[string]any{
		"cniVersion": cniVersion,
		"name":       n.cfg.Name,
		"plugins": []map[string]any{
			{
				"type": "bridge", "bridge": n.bridge, "isGateway": true, "hairpinMode": true, "promiscMode": false,
				"ipam": map[string]any{
					"type":    "host-local",
					"dataDir": n.leases(),
					"ranges":  [][]map[string]string{{{"subnet": n.cfg.Subnet.String()}}},
					"routes":  []map[string]string{{"dst": "0.0.0.0/0"}},
				},
			},
			{"type": portPlugin, "capabilities": map[string]bool{portCapability: true}, "snat": true},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("build network configuration: %w", err)
	}
	list, err := libcni.NetworkConfFromBytes(b)
	if err != nil {
		return nil, fmt.Errorf("build network configuration: %w", err)
	}
	return list, nil
}

// withoutPorts leaves portmap out for a Pod without host ports: it would only cost a process. libcni records the
// configuration an addition was done with, but takes it from Bytes, so a shortened list needs its own.
func withoutPorts(list *libcni.NetworkConfigList, s Sandbox) *libcni.NetworkConfigList {
	if len(s.Ports) > 0 {
		return list
	}
	var raw map[string]any
	if err := json.Unmarshal(list.Bytes, &raw); err != nil {
		return list // never: we wrote it; portmap is only slower
	}
	plugins, ok := raw["plugins"].([]any)
	if !ok || len(plugins) < 2 {
		return list
	}
	raw["plugins"] = plugins[:1]
	b, err := json.Marshal(raw)
	if err != nil {
		return list
	}
	short, err := libcni.NetworkConfFromBytes(b)
	if err != nil {
		return list
	}
	return short
}
