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

// cniVersion is what the built-in network speaks with portmap: plugins of 2021 and later know it.
const cniVersion = "1.0.0"

// configuration is the network for the next Pod, or that it is the built-in one: there is no file. The directory is looked at each
// time, its files are read when they have changed.
func (n *Network) configuration() (list *libcni.NetworkConfigList, builtIn bool, err error) {
	files, err := n.confFiles()
	if err != nil {
		return nil, false, err
	}
	if len(files) == 0 {
		return nil, true, nil
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

// isBuiltIn says whether a list starts with the bridge of the built-in network, which earlier agents had a plugin make. Now
// the agent takes it away itself.
func (n *Network) isBuiltIn(list *libcni.NetworkConfigList) bool {
	if list.Name != n.cfg.Name || len(list.Plugins) == 0 {
		return false
	}
	var plugin struct {
		Type, Bridge string
		IPAM         struct{ DataDir string }
	}
	err := json.Unmarshal(list.Plugins[0].Bytes, &plugin)
	return err == nil && plugin.Type == "bridge" && plugin.Bridge == n.bridge && plugin.IPAM.DataDir == n.leases.dataDir
}
