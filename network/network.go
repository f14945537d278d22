// Package network is the room of a Pod's network: its network namespace, its attachments through CNI plugins, what
// becomes of both when a Pod is gone, and the files every container is given for it (hosts, resolv.conf).
//
//	CreateNetNS  ─▶ RunDir/netns/<sandbox>      a bind mount keeps the namespace without any process in it
//	Add          ─▶ lease ─▶ bridge ─▶ link     the built-in network, by netlink, unless ConfDir has a configuration
//	               portmap                      only for Pods with host ports
//	             ─▶ plugins of a configuration
//	Remove, GC   ─▶ the same, backwards; plugins with the configuration that was used to add
//	Keep         ─▶ rules and bridge on the host, put back when others swept them away
//
// It must not know what a sandbox is beyond its id, nor when Pods come and go. What it has done is in the leases of the
// built-in network, in libcni's cache where plugins did it, and in the mount table, so a crash at any point is made good by
// Remove, or by GC.
package network

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/containernetworking/cni/libcni"
	cnitypes "github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/utils"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	defaultName   = "podkeeper"
	defaultSubnet = "10.187.0.0/16"
	interfaceName = "eth0" // in every Pod
	maxLinkName   = 15     // IFNAMSIZ less the final zero
)

// Config says where the network's parts live. Two agents on one host need different ones.
type Config struct {
	ConfDir  string       // CNI configurations; the first by name is used, and while there is none, the built-in network
	BinDir   string       // CNI plugins
	RunDir   string       // network namespaces are pinned in RunDir/netns; must not survive a reboot
	StateDir string       // addresses in use and libcni's cache; best lost on a reboot, too
	Name     string       // of the built-in network; its bridge and subnet follow from it; "" means podkeeper
	Subnet   netip.Prefix // IPv4, of the built-in network; the zero value means one that follows from Name
	Log      *slog.Logger // nil: nothing is logged
}

// Port is a port of a Pod on its host.
type Port struct {
	HostPort, ContainerPort int32
	Protocol                string // TCP, UDP or SCTP; "" means TCP
	HostIP                  string // "" means all the host's addresses
}

// Sandbox is what plugins are told about a Pod.
type Sandbox struct {
	ID                            string // names the network namespace and the attachment; letters, digits, "-", "_" and "."
	PodNamespace, PodName, PodUID string
	Ports                         []Port
}

// Network attaches sandboxes. Its methods are safe for concurrent use for different sandboxes.
type Network struct {
	cfg    Config
	cni    *libcni.CNIConfig
	bridge string
	leases *leases // of the built-in network

	mu       sync.Mutex // guards what follows
	current  *libcni.NetworkConfigList
	files    string           // fingerprint of the files current was read from
	prepared bool             // the host's part of the built-in network was set up
	address  net.HardwareAddr // of the bridge, when it was last seen

	recordMu   sync.Mutex               // guards what follows, and is never held while a program runs
	recorded   map[string]bool          // sandboxes in libcni's cache, and whether they have host ports; nil before it was read
	otherPorts bool                     // portmap does not use iptables
	held       map[string]chan struct{} // sandboxes that are being changed; closed when that is done
}

// Open checks the configuration. It touches nothing on the host.
func Open(cfg Config) (*Network, error) {
	if cfg.RunDir == "" || cfg.StateDir == "" || cfg.BinDir == "" {
		return nil, errors.New("open network: RunDir, StateDir and BinDir are needed")
	}
	if cfg.Name == "" {
		cfg.Name = defaultName
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if !cfg.Subnet.IsValid() {
		cfg.Subnet = subnetOf(cfg.Name)
	}
	cfg.Subnet = cfg.Subnet.Masked()
	if !cfg.Subnet.Addr().Is4() || cfg.Subnet.Bits() > 30 {
		return nil, fmt.Errorf("open network: subnet %s: want an IPv4 one of at least four addresses", cfg.Subnet)
	}
	leases, err := openLeases(cfg.Name, filepath.Join(cfg.StateDir, "ipam"), cfg.Subnet)
	if err != nil {
		return nil, fmt.Errorf("open network: %w", err)
	}
	return &Network{
		cfg: cfg, cni: libcni.NewCNIConfigWithCacheDir([]string{cfg.BinDir}, cfg.StateDir, &plugins{}), bridge: bridgeOf(cfg.Name),
		leases: leases, held: map[string]chan struct{}{},
	}, nil
}

// Describe names the network a Pod would get now, for a log.
func (n *Network) Describe() string {
	list, builtIn, err := n.configuration()
	switch {
	case err != nil:
		return "none: " + err.Error()
	case builtIn:
		return fmt.Sprintf("%s (built-in, %s on %s)", n.cfg.Name, n.cfg.Subnet, n.bridge)
	default:
		return list.Name
	}
}

// BuiltInSubnet is the subnet that Pods get addresses of, "" where they do not get them of the built-in network.
func (n *Network) BuiltInSubnet() string {
	if _, builtIn, err := n.configuration(); err != nil || !builtIn {
		return ""
	}
	return n.cfg.Subnet.String()
}

// Add attaches a sandbox, whose network namespace must exist, and answers its addresses, the primary first. One that is
// attached already keeps its addresses. After an error something may be left: Remove takes it away.
func (n *Network) Add(ctx context.Context, s Sandbox) ([]netip.Addr, error) {
	if err := checkID(s.ID); err != nil {
		return nil, fmt.Errorf("add sandbox to network: %w", err)
	}
	if ips, err := n.attached(ctx, s); err != nil || len(ips) > 0 {
		return ips, err
	}
	list, builtIn, err := n.configuration()
	if err != nil {
		return nil, fmt.Errorf("add sandbox %s to network: %w", s.ID, err)
	}
	if builtIn {
		ips, err := n.addBuiltIn(ctx, s)
		if err != nil {
			return nil, fmt.Errorf("add sandbox %s to network %s: %w", s.ID, n.cfg.Name, err)
		}
		return ips, nil
	}
	ips, err := n.addByPlugins(ctx, list, s)
	if err != nil {
		return nil, fmt.Errorf("add sandbox %s to network %s: %w", s.ID, list.Name, err)
	}
	return ips, nil
}

// addByPlugins attaches a sandbox to a network that was configured, not to the built-in one, which may have been begun.
func (n *Network) addByPlugins(ctx context.Context, list *libcni.NetworkConfigList, s Sandbox) ([]netip.Addr, error) {
	addr, err := n.leases.of(s.ID)
	if err == nil && addr.IsValid() {
		err = n.undoBuiltIn(ctx, s, addr)
	}
	if err != nil {
		return nil, fmt.Errorf("remove from built-in network: %w", err)
	}
	result, err := n.cni.AddNetworkList(ctx, list, n.arguments(s))
	if err != nil {
		return nil, err
	}
	n.note(s.ID, len(s.Ports) > 0)
	return addresses(result)
}

// attached answers the addresses of a sandbox that was added before, none if it was not, or not wholly. A cache that
// outlived the namespace (a reboot) is not believed: what it speaks of is freed first.
func (n *Network) attached(ctx context.Context, s Sandbox) ([]netip.Addr, error) {
	attachments, err := n.attachments(s.ID)
	if err != nil {
		return nil, err
	}
	for _, a := range attachments {
		if a.IfName == interfaceName && n.hasInterface(s.ID) {
			return n.cachedAddresses(a)
		}
		if err := n.detach(ctx, a); err != nil {
			return nil, fmt.Errorf("free stale attachment of sandbox %s: %w", s.ID, err)
		}
	}
	if len(s.Ports) > 0 { // would be recorded
		return nil, nil
	}
	addr, err := n.leases.of(s.ID)
	if err != nil || !addr.IsValid() || !n.isConnected(s.ID, addr) {
		return nil, err
	}
	return []netip.Addr{addr}, nil
}

func (n *Network) cachedAddresses(a *libcni.NetworkAttachment) ([]netip.Addr, error) {
	result, err := n.cachedResult(a)
	if err != nil {
		return nil, err
	}
	return addresses(result)
}

// cachedResult is what the plugins answered when a sandbox was added.
func (n *Network) cachedResult(a *libcni.NetworkAttachment) (*types100.Result, error) {
	list, err := libcni.NetworkConfFromBytes(a.Config)
	if err != nil {
		return nil, fmt.Errorf("read attachment of sandbox %s: %w", a.ContainerID, err)
	}
	result, err := n.cni.GetNetworkListCachedResult(list, &libcni.RuntimeConf{ContainerID: a.ContainerID, IfName: a.IfName})
	if err == nil && result == nil {
		err = errors.New("no result is cached")
	}
	if err != nil {
		return nil, fmt.Errorf("read addresses of sandbox %s: %w", a.ContainerID, err)
	}
	return types100.NewResultFromResult(result)
}

// hasInterface says whether the sandbox's namespace is there with its interface in it.
func (n *Network) hasInterface(id string) bool {
	ns, err := netns.GetFromPath(n.NetNS(id))
	if err != nil {
		return false
	}
	defer ns.Close()
	handle, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return false
	}
	defer handle.Close()
	_, err = handle.LinkByName(interfaceName)
	return err == nil
}

// Remove detaches a sandbox, unpins its network namespace and forgets it, whatever part of that is there: also when the
// namespace is gone, the addition failed half-way, or the configuration has changed since.
func (n *Network) Remove(ctx context.Context, s Sandbox) error {
	if err := checkID(s.ID); err != nil {
		return fmt.Errorf("remove sandbox from network: %w", err)
	}
	attachments, err := n.attachments(s.ID)
	if err != nil {
		return err
	}
	for _, a := range attachments {
		if err := n.detach(ctx, a); err != nil {
			return fmt.Errorf("remove sandbox %s from network %s: %w", s.ID, a.Network, err)
		}
	}
	if err := n.removeUnrecorded(ctx, s, attachments); err != nil {
		return fmt.Errorf("remove sandbox %s from network: %w", s.ID, err)
	}
	return n.unpin(s.ID)
}

// removeUnrecorded undoes what there is no record of, beside those that were undone: what the built-in network did by
// itself, and an addition that failed.
func (n *Network) removeUnrecorded(ctx context.Context, s Sandbox, undone []*libcni.NetworkAttachment) error {
	addr, err := n.leases.of(s.ID)
	if err != nil {
		return err
	}
	isOurs := func(a *libcni.NetworkAttachment) bool { return a.Network == n.cfg.Name }
	if !addr.IsValid() && !slices.ContainsFunc(undone, isOurs) {
		if len(undone) > 0 {
			return nil
		}
		return n.detachUnknown(ctx, s)
	}
	if len(undone) > 0 {
		return n.removeBuiltIn(s.ID, addr)
	}
	return n.undoBuiltIn(ctx, s, addr)
}

// detach undoes what plugins did of a recorded addition, with the very configuration it was done with.
func (n *Network) detach(ctx context.Context, a *libcni.NetworkAttachment) error {
	list, err := libcni.NetworkConfFromBytes(a.Config)
	if err != nil {
		return fmt.Errorf("parse cached configuration: %w", err)
	}
	if n.isBuiltIn(list) {
		list.Plugins = list.Plugins[1:]
	}
	release, err := n.hold(ctx, a.ContainerID)
	if err != nil {
		return err
	}
	defer release()
	err = n.cni.DelNetworkList(ctx, list, &libcni.RuntimeConf{
		ContainerID: a.ContainerID, NetNS: n.pinned(a.ContainerID), IfName: a.IfName, Args: a.CniArgs, CapabilityArgs: a.CapabilityArgs,
	})
	if err == nil {
		n.forget(a.ContainerID)
	}
	return err
}

// detachUnknown undoes an addition of which there is no record: it failed, or never was. A configuration that cannot
// be read must not keep a Pod from ending, so it is only logged.
func (n *Network) detachUnknown(ctx context.Context, s Sandbox) error {
	list, builtIn, err := n.configuration()
	if err != nil {
		n.cfg.Log.Warn("cannot tell plugins that a sandbox is gone", "sandbox", s.ID, "error", err)
		return nil
	}
	if builtIn {
		return n.undoBuiltIn(ctx, s, netip.Addr{})
	}
	rt := n.arguments(s)
	rt.NetNS = n.pinned(s.ID)
	return n.cni.DelNetworkList(ctx, list, rt)
}

// checkID refuses what libcni would not take as a container's id. It takes "" for all of them, which nobody means.
func checkID(id string) error {
	if err := utils.ValidateContainerID(id); err != nil {
		return fmt.Errorf("sandbox id %q: %w", id, err)
	}
	return nil
}

// arguments is what plugins are told about a sandbox.
func (n *Network) arguments(s Sandbox) *libcni.RuntimeConf {
	rt := &libcni.RuntimeConf{
		ContainerID: s.ID, NetNS: n.NetNS(s.ID), IfName: interfaceName,
		Args: [][2]string{
			{"IgnoreUnknown", "1"},
			{"K8S_POD_NAMESPACE", s.PodNamespace},
			{"K8S_POD_NAME", s.PodName},
			{"K8S_POD_INFRA_CONTAINER_ID", s.ID},
			{"K8S_POD_UID", s.PodUID},
		},
	}
	var mappings []map[string]any
	for _, p := range s.Ports {
		protocol := strings.ToLower(p.Protocol)
		if protocol == "" {
			protocol = "tcp"
		}
		mappings = append(mappings, map[string]any{
			"hostPort": p.HostPort, "containerPort": p.ContainerPort, "protocol": protocol, "hostIP": p.HostIP,
		})
	}
	if mappings != nil {
		rt.CapabilityArgs = map[string]any{portCapability: mappings}
	}
	return rt
}

// addresses are the Pod's addresses in a plugin's result.
func addresses(result cnitypes.Result) ([]netip.Addr, error) {
	r, err := types100.NewResultFromResult(result)
	if err != nil {
		return nil, fmt.Errorf("read result: %w", err)
	}
	var out []netip.Addr
	for _, ip := range r.IPs {
		if ip == nil {
			continue
		}
		if at := ip.Interface; at != nil && *at >= 0 && *at < len(r.Interfaces) && (r.Interfaces[*at] == nil || r.Interfaces[*at].Sandbox == "") {
			continue // an interface of the host
		}
		if addr, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			out = append(out, addr.Unmap())
		}
	}
	if len(out) == 0 {
		return nil, errors.New("the plugins gave no address")
	}
	return out, nil
}

// subnetOf gives every name a subnet of its own in a part of 10.0.0.0/8 that neither Kubernetes' nor its peers'
// defaults use.
func subnetOf(name string) netip.Prefix {
	if name == defaultName {
		return netip.MustParsePrefix(defaultSubnet)
	}
	h := hash(name)
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 192 + byte(h>>8)%32, byte(h), 0}), 24)
}

// bridgeOf names the bridge after its network, or, where that makes no link's name, after its hash.
func bridgeOf(name string) string {
	if len(name) >= maxLinkName || strings.ContainsAny(name, "/: \t\n") {
		return fmt.Sprintf("pk%08x0", hash(name))
	}
	return name + "0"
}

func hash(name string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(name)) // never fails
	return h.Sum32()
}

// gateway is the built-in network's, on the bridge.
func (n *Network) gateway() netip.Addr { return n.cfg.Subnet.Addr().Next() }
