package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// bare is a network of a host where no plugin is installed but these.
func bare(t testing.TB, plugins ...string) *Network {
	t.Helper()
	folder := t.TempDir()
	for _, plugin := range plugins {
		if err := os.Symlink(filepath.Join(pluginFolder, plugin), filepath.Join(folder, plugin)); err != nil {
			t.Fatal(err)
		}
	}
	return open(t, func(c *Config) { c.BinDir = folder })
}

// addAsBefore attaches a sandbox as earlier agents did: by plugins, which they all recorded.
func addAsBefore(t *testing.T, n *Network, s Sandbox) netip.Addr {
	t.Helper()
	if err := n.CreateNetNS(s.ID); err != nil {
		t.Fatal(err)
	}
	result, err := byPlugins(n).AddNetworkList(context.Background(), listAsBefore(t, n, s), n.arguments(s))
	if err != nil {
		t.Fatal(err)
	}
	ips, err := addresses(result)
	if err != nil {
		t.Fatal(err)
	}
	return ips[0]
}

func byPlugins(n *Network) *libcni.CNIConfig {
	return libcni.NewCNIConfigWithCacheDir([]string{pluginFolder}, n.cfg.StateDir, &plugins{})
}

func listAsBefore(t *testing.T, n *Network, s Sandbox) *libcni.NetworkConfigList {
	t.Helper()
	list, err := libcni.NetworkConfFromBytes([]byte(pluginList(t, n.cfg.Name, n.bridge, n.leases.dataDir, n.cfg.Subnet)))
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Ports) == 0 {
		list.Plugins = list.Plugins[:1]
	}
	return list
}

// nothingLeft fails the test where a sandbox has something still. Its namespace may be pinned.
func nothingLeft(t *testing.T, n *Network, id string) {
	t.Helper()
	all, err := n.leases.all()
	if err != nil || len(all) > 0 {
		t.Errorf("addresses are left: %v, %v", all, err)
	}
	if n.pinned(id) != "" && n.hasInterface(id) {
		t.Error("the link is left")
	}
	if left, err := n.cni.GetCachedAttachments(""); err != nil || len(left) > 0 {
		t.Errorf("a record is left: %v, %v", left, err)
	}
	for _, rule := range rules(t) {
		if strings.Contains(rule, "CNI-DN-") {
			t.Errorf("a rule of a host port is left: %s", rule)
		}
	}
	for deadline := time.Now().Add(linkPatience); ; time.Sleep(time.Millisecond) { // the kernel takes its time to end a namespace
		links, err := dump(netlink.LinkList)
		if err != nil {
			t.Fatal(err)
		}
		link := slices.IndexFunc(links, func(link netlink.Link) bool { return link.Type() == "veth" })
		if link < 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("link %s is left", links[link].Attrs().Name)
			return
		}
	}
}

// TestAPodWithoutHostPortsNeedsNoPlugin has a host without any, and finds no record but the address.
func TestAPodWithoutHostPortsNeedsNoPlugin(t *testing.T) {
	n := bare(t)
	asHost(t, func() {
		s := sandbox("b1")
		add(t, n, s)
		if records, err := os.ReadDir(filepath.Join(n.cfg.StateDir, "results")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("there are records: %v, %v", records, err)
		}
		if err := n.Remove(context.Background(), s); err != nil {
			t.Fatal(err)
		}
		nothingLeft(t, n, s.ID)
		s.Ports = []Port{{HostPort: 8080, ContainerPort: 80}}
		if err := n.CreateNetNS(s.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Add(context.Background(), s); err == nil || !strings.Contains(err.Error(), "portmap") {
			t.Errorf("got %v, want an error that names portmap", err)
		}
		if err := n.Remove(context.Background(), s); err != nil {
			t.Error(err)
		}
		nothingLeft(t, n, s.ID)
		if err := n.Destroy(); err != nil {
			t.Error(err)
		}
	})
}

// shape is all that one can see of a Pod's link but names, indexes and random hardware addresses; and the length of a queue
// that it does not have, of which plugins differ.
type shape struct {
	Inner, End, Bridge   linkShape
	Routes               []string
	Hairpin, Isolated    bool
	Forwards             string
	ArpNotify, AcceptDAD string
}

type linkShape struct {
	Type      string
	Flags     net.Flags
	MTU       int
	Queues    [2]int
	State     netlink.LinkOperState
	Addresses []string
	HasMaster bool
	Promisc   int
}

func shapeOf(t *testing.T, handle *netlink.Handle, link netlink.Link) linkShape {
	t.Helper()
	a := link.Attrs()
	s := linkShape{
		Type: link.Type(), Flags: a.Flags, MTU: a.MTU, Queues: [2]int{a.NumTxQueues, a.NumRxQueues}, State: a.OperState,
		HasMaster: a.MasterIndex != 0, Promisc: a.Promisc,
	}
	addrs, err := dump(func() ([]netlink.Addr, error) { return handle.AddrList(link, netlink.FAMILY_V4) })
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range addrs {
		s.Addresses = append(s.Addresses, fmt.Sprintf("%v broadcast %v scope %d", addr.IPNet, addr.Broadcast, addr.Scope))
	}
	return s
}

// TestALinkIsAsThePluginsMakeIt compares the built-in network with the same one as a user would write it.
func TestALinkIsAsThePluginsMakeIt(t *testing.T) {
	var shapes []shape
	eachWay(t, func(t *testing.T, open way) {
		n := open(t, func(c *Config) { c.Subnet = netip.MustParsePrefix("10.193.80.0/24") })
		asHost(t, func() {
			add(t, n, sandbox("s0"))
			add(t, n, sandbox("s1"))
			shapes = append(shapes, n.shape(t, "s1"))
			if err := n.GC(context.Background(), nothing); err != nil {
				t.Error(err)
			}
			if err := n.Destroy(); err != nil {
				t.Error(err)
			}
		})
	})
	if t.Failed() || len(shapes) < 2 {
		return
	}
	if got, want := shapes[0], shapes[1]; !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant, as plugins make it,\n%+v", got, want)
	}
}

func (n *Network) shape(t *testing.T, id string) (out shape) {
	t.Helper()
	s, err := n.openSides(id)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	inner, err := s.inside.LinkByName(interfaceName)
	if err != nil {
		t.Fatal(err)
	}
	end, err := s.peer(inner)
	if err != nil || end == nil {
		t.Fatal(end, err)
	}
	if name := end.Attrs().Name; len(name) != 12 || !strings.HasPrefix(name, "veth") {
		t.Errorf("the host's end is %s", name)
	}
	bridge, err := s.host.LinkByIndex(end.Attrs().MasterIndex)
	if err != nil {
		t.Fatal(err)
	}
	out.Inner, out.End, out.Bridge = shapeOf(t, s.inside, inner), shapeOf(t, s.host, end), shapeOf(t, s.host, bridge)
	routes, err := dump(func() ([]netlink.Route, error) { return s.inside.RouteList(nil, netlink.FAMILY_V4) })
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		out.Routes = append(out.Routes, fmt.Sprintf("%v via %v scope %v protocol %v metric %d flags %d", r.Dst, r.Gw, r.Scope, r.Protocol, r.Priority, r.Flags))
	}
	protection, err := s.host.LinkGetProtinfo(end)
	if err != nil {
		t.Fatal(err)
	}
	out.Hairpin, out.Isolated = protection.Hairpin, protection.Isolated
	read := func(path string) string {
		b, err := os.ReadFile("/proc/sys/net/" + path)
		if err != nil {
			t.Error(err)
		}
		return strings.TrimSpace(string(b))
	}
	out.Forwards = read("ipv4/ip_forward") + read("ipv6/conf/"+bridge.Attrs().Name+"/accept_ra")
	inNamespace(t, n.NetNS(id), func() {
		out.ArpNotify, out.AcceptDAD = read("ipv4/conf/eth0/arp_notify"), read("ipv6/conf/eth0/accept_dad")
	})
	return out
}

// TestTheGatewayKeepsItsHardwareAddress has Pods come and go, and the bridge with them.
func TestTheGatewayKeepsItsHardwareAddress(t *testing.T) {
	n := open(t, nil)
	asHost(t, func() {
		want := ""
		for range 2 {
			for _, id := range []string{"h1", "h2", "h3"} {
				add(t, n, sandbox(id))
				bridge, err := netlink.LinkByName(n.bridge)
				if err != nil {
					t.Fatal(err)
				}
				got := bridge.Attrs().HardwareAddr.String()
				if want == "" {
					want = got
				}
				if got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			}
			if err := n.GC(context.Background(), nothing); err != nil {
				t.Fatal(err)
			}
			if err := n.Destroy(); err != nil {
				t.Fatal(err)
			}
			n = another(t, n)
		}
	})
}

// TestHalfAnAdditionIsMadeGood has an agent die in the middle of an addition, and another one add the sandbox again, remove it
// or collect it.
func TestHalfAnAdditionIsMadeGood(t *testing.T) {
	ctx := context.Background()
	must := func(t *testing.T, errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	type half func(t *testing.T, n *Network, s *Sandbox)
	take := func(t *testing.T, n *Network, s *Sandbox) netip.Addr {
		addr, err := n.leases.take(s.ID)
		must(t, err, n.prepare(ctx))
		return addr
	}
	// pair makes the link, and then what is asked for of it.
	pair := func(rest func(t *testing.T, n *Network, s *sides, end, bridge netlink.Link, addr netip.Addr)) half {
		return func(t *testing.T, n *Network, s *Sandbox) {
			addr := take(t, n, s)
			both, err := n.openSides(s.ID)
			must(t, err)
			defer both.close()
			bridge, err := n.ensureBridge(both.host)
			must(t, err)
			end, err := both.makePair()
			must(t, err)
			rest(t, n, both, end, bridge, addr)
		}
	}
	halves := map[string]half{
		"nothing but the namespace": func(*testing.T, *Network, *Sandbox) {},
		"the address":               func(t *testing.T, n *Network, s *Sandbox) { take(t, n, s) },
		"the address and the link":  pair(func(*testing.T, *Network, *sides, netlink.Link, netlink.Link, netip.Addr) {}),
		"the link on the bridge, without the address": pair(func(t *testing.T, _ *Network, s *sides, end, bridge netlink.Link, _ netip.Addr) {
			must(t, setMaster(s.host, end, bridge))
		}),
		"all but the route": pair(func(t *testing.T, n *Network, s *sides, end, bridge netlink.Link, addr netip.Addr) {
			inner, err := s.inside.LinkByName(interfaceName)
			must(t, err, setMaster(s.host, end, bridge), s.inside.AddrAdd(inner, &netlink.Addr{IPNet: prefix(addr, n.cfg.Subnet.Bits())}))
			must(t, s.inside.LinkSetUp(inner))
		}),
		"a link without its address, which was lost": pair(func(t *testing.T, n *Network, s *sides, end, bridge netlink.Link, addr netip.Addr) {
			inner, err := s.inside.LinkByName(interfaceName)
			must(t, err, s.inside.AddrAdd(inner, &netlink.Addr{IPNet: prefix(addr.Next(), n.cfg.Subnet.Bits())}))
			must(t, os.RemoveAll(n.leases.folder()))
		}),
		"a link of another kind": func(t *testing.T, n *Network, s *Sandbox) {
			inNamespace(t, n.NetNS(s.ID), func() {
				if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: interfaceName}}); err != nil {
					t.Error(err)
				}
			})
		},
		"all but the host ports": func(t *testing.T, n *Network, s *Sandbox) {
			s.Ports = []Port{{HostPort: 8080, ContainerPort: 80}}
			_, err := n.connect(ctx, s.ID, take(t, n, s))
			must(t, err)
		},
		"host ports that were not recorded": func(t *testing.T, n *Network, s *Sandbox) {
			s.Ports = []Port{{HostPort: 8080, ContainerPort: 80}}
			add(t, n, *s)
			must(t, os.RemoveAll(filepath.Join(n.cfg.StateDir, "results")))
		},
		"all, in a namespace that is gone": func(t *testing.T, n *Network, s *Sandbox) {
			add(t, n, *s)
			must(t, n.unpin(s.ID), n.CreateNetNS(s.ID))
		},
		"an address of another subnet, in a namespace that is gone": func(t *testing.T, n *Network, s *Sandbox) {
			add(t, n, *s)
			addr, err := n.leases.of(s.ID)
			must(t, err, os.Rename(n.leases.file(addr), n.leases.file(netip.MustParseAddr("10.193.82.5"))))
			must(t, n.unpin(s.ID), n.CreateNetNS(s.ID))
		},
	}
	goods := map[string]func(t *testing.T, n *Network, s Sandbox){
		"added": func(t *testing.T, n *Network, s Sandbox) {
			ip := add(t, n, s)
			if !n.cfg.Subnet.Contains(ip) || leaseCount(t, n) != 1 || !n.isConnected(s.ID, ip) {
				t.Errorf("it has %s, of %d, connected %v", ip, leaseCount(t, n), n.isConnected(s.ID, ip))
			}
			inNamespace(t, n.NetNS(s.ID), func() {
				if routes, err := netlink.RouteGet(net.IPv4(192, 0, 2, 7)); err != nil || len(routes) != 1 || !routes[0].Gw.Equal(n.gateway().AsSlice()) {
					t.Errorf("the way to all others: %v, %v", routes, err)
				}
			})
			serve(t, n.NetNS(s.ID), ip, 80)
			other := sandbox("other")
			if from := add(t, n, other); ask(t, n.NetNS(other.ID), ip, 80) != from {
				t.Errorf("%s is not reached", ip)
			}
			must(t, n.Remove(ctx, other), n.Remove(ctx, s))
		},
		"removed":   func(t *testing.T, n *Network, s Sandbox) { must(t, n.Remove(ctx, s)) },
		"collected": func(t *testing.T, n *Network, _ Sandbox) { must(t, n.GC(ctx, nothing)) },
	}
	for sentence, begin := range halves {
		for verb, end := range goods {
			t.Run(sentence+" is "+verb, func(t *testing.T) {
				n := open(t, func(c *Config) { c.Subnet = netip.MustParsePrefix("10.193.81.0/28") })
				asHost(t, func() {
					s := sandbox("k1")
					must(t, n.CreateNetNS(s.ID))
					begin(t, n, &s)
					end(t, another(t, n), s)
					nothingLeft(t, n, s.ID)
					must(t, n.GC(ctx, nothing), n.Destroy())
				})
			})
		}
	}
}

// TestWhatIsAttachedIsLeftAlone has a Pod that changes its own network, and an agent that is started anew.
func TestWhatIsAttachedIsLeftAlone(t *testing.T) {
	n := open(t, nil)
	s := sandbox("a1")
	want := add(t, n, s)
	index := func() (index int) {
		inNamespace(t, n.NetNS(s.ID), func() {
			link, err := netlink.LinkByName(interfaceName)
			if err != nil {
				t.Error(err)
				return
			}
			index = link.Attrs().Index
		})
		return index
	}
	before := index()
	inNamespace(t, n.NetNS(s.ID), func() { // a route in place of ours
		link, err := netlink.LinkByName(interfaceName)
		if err == nil {
			err = netlink.RouteDel(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: everywhere()})
		}
		if err == nil {
			err = netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: everywhere(), Gw: want.Next().AsSlice(), Priority: 100})
		}
		if err != nil {
			t.Error(err)
		}
	})
	for range 2 {
		if got := add(t, another(t, n), s); got != want || index() != before {
			t.Errorf("got %s on link %d, want %s on %d", got, index(), want, before)
		}
	}
	inNamespace(t, n.NetNS(s.ID), func() {
		routes, err := netlink.RouteGet(net.IPv4(192, 0, 2, 7))
		if err != nil || len(routes) != 1 || !routes[0].Gw.Equal(want.Next().AsSlice()) {
			t.Errorf("the Pod's own route: %v, %v", routes, err)
		}
	})
}

// TestWhatPluginsOfAnEarlierAgentMadeIsTakenOver has Pods, with host ports and without, that bridge, host-local and portmap
// attached, of which only portmap is installed still.
func TestWhatPluginsOfAnEarlierAgentMadeIsTakenOver(t *testing.T) {
	ctx := context.Background()
	withPorts := sandbox("with-ports")
	withPorts.Ports = []Port{{HostPort: 8080, ContainerPort: 80}}
	for verb, free := range map[string]func(n *Network) error{
		"removed": func(n *Network) error {
			return errors.Join(n.Remove(ctx, sandbox("without")), n.Remove(ctx, withPorts))
		},
		"collected": func(n *Network) error { return n.GC(ctx, nothing) },
		"added in a namespace of their own after a reboot, and removed": func(n *Network) error {
			for _, s := range []Sandbox{sandbox("without"), withPorts} {
				was, err := n.leases.of(s.ID)
				if err := errors.Join(err, n.unpin(s.ID), n.CreateNetNS(s.ID)); err != nil {
					return err
				}
				if ips, err := n.Add(ctx, s); err != nil || ips[0] != was || !n.isConnected(s.ID, was) {
					return fmt.Errorf("added with %v, %w", ips, err)
				}
			}
			return errors.Join(n.Remove(ctx, sandbox("without")), n.Remove(ctx, withPorts))
		},
	} {
		t.Run(verb, func(t *testing.T) {
			n := bare(t, "portmap")
			asHost(t, func() {
				for _, s := range []Sandbox{sandbox("without"), withPorts} {
					want := addAsBefore(t, n, s)
					if got := add(t, another(t, n), s); got != want {
						t.Errorf("got %s, want the address that it has, %s", got, want)
					}
				}
				add(t, another(t, n), sandbox("new")) // beside them
				if err := another(t, n).Remove(ctx, sandbox("new")); err != nil {
					t.Error(err)
				}
				if err := free(another(t, n)); err != nil {
					t.Error(err)
				}
				nothingLeft(t, n, "without")
				nothingLeft(t, n, withPorts.ID)
				if err := errors.Join(n.GC(ctx, nothing), n.Destroy()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestPluginsOfAnEarlierAgentRemove what this one made, after it was taken back.
func TestPluginsOfAnEarlierAgentRemove(t *testing.T) {
	n := open(t, nil)
	asHost(t, func() {
		ctx := context.Background()
		s := sandbox("e1")
		add(t, n, s)
		rt := n.arguments(s)
		if err := byPlugins(n).DelNetworkList(ctx, listAsBefore(t, n, s), rt); err != nil {
			t.Fatal(err)
		}
		nothingLeft(t, n, s.ID)
		add(t, n, s) // which does not believe that it has its address still
		if leaseCount(t, n) != 1 {
			t.Errorf("it has %d addresses", leaseCount(t, n))
		}
		if err := errors.Join(n.Remove(ctx, s), n.Destroy()); err != nil {
			t.Error(err)
		}
	})
}

// TestAnAdditionThatOutlivedItsAgentIsUndone has a plugin that an earlier agent had started end after this one has looked.
func TestAnAdditionThatOutlivedItsAgentIsUndone(t *testing.T) {
	n := open(t, nil)
	asHost(t, func() {
		ctx := context.Background()
		add(t, n, sandbox("seen")) // all addresses are known now
		s := sandbox("late")
		addAsBefore(t, n, s)
		if err := os.RemoveAll(filepath.Join(n.cfg.StateDir, "results")); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(n.Remove(ctx, s), n.Remove(ctx, sandbox("seen"))); err != nil {
			t.Fatal(err)
		}
		nothingLeft(t, n, s.ID)
		if err := n.Destroy(); err != nil {
			t.Error(err)
		}
	})
}

// TestABuiltInNetworkThatWasBegunGivesWay to a configuration that came meanwhile.
func TestABuiltInNetworkThatWasBegunGivesWay(t *testing.T) {
	n := openWritten(t, nil)
	s := sandbox("g1")
	if err := n.CreateNetNS(s.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := n.leases.take(s.ID); err != nil {
		t.Fatal(err)
	}
	if ip := add(t, another(t, n), s); leaseCount(t, n) != 1 {
		t.Errorf("it has %s, and %d addresses", ip, leaseCount(t, n))
	}
	if left, err := n.leases.all(); err != nil || len(left) > 0 {
		t.Errorf("the built-in network still has %v, %v", left, err)
	}
	if err := n.Remove(context.Background(), s); err != nil || leaseCount(t, n) != 0 {
		t.Errorf("got %v, %d addresses", err, leaseCount(t, n))
	}
}

// TestAPodIsAddedWhereTheBridgeIsGone connects those that were there before, too.
func TestAPodIsAddedWhereTheBridgeIsGone(t *testing.T) {
	n := open(t, nil)
	first, second := sandbox("d1"), sandbox("d2")
	ip := add(t, n, first)
	link, err := netlink.LinkByName(n.bridge)
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		t.Fatal(err)
	}
	from := add(t, n, second)
	serve(t, n.NetNS(first.ID), ip, 80)
	if got := ask(t, n.NetNS(second.ID), ip, 80); got != from {
		t.Errorf("it sees %v, want %v", got, from)
	}
}

// TestAnotherLinkOfTheBridgesNameIsLeftAlone fails the Pod instead.
func TestAnotherLinkOfTheBridgesNameIsLeftAlone(t *testing.T) {
	n := open(t, nil)
	asHost(t, func() {
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: n.bridge}, PeerName: "peer"}); err != nil {
			t.Fatal(err)
		}
		s := sandbox("o1")
		if err := n.CreateNetNS(s.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Add(context.Background(), s); err == nil || !strings.Contains(err.Error(), "is a veth, not a bridge") {
			t.Errorf("got %v", err)
		}
		if err := errors.Join(n.GC(context.Background(), nothing), n.Destroy()); err != nil {
			t.Error(err)
		}
	})
}

// TestAnAddressThatAnotherPodHadIsReachedAtOnce has a subnet with one address that is not in use. The host and a neighbour,
// who know the hardware address of the Pod that had it before, are told.
func TestAnAddressThatAnotherPodHadIsReachedAtOnce(t *testing.T) {
	n := open(t, func(c *Config) { c.Subnet = netip.MustParsePrefix("10.193.83.0/29") })
	asHost(t, func() {
		for _, id := range []string{"neighbour", "n2", "n3", "n4"} {
			add(t, n, sandbox(id))
		}
		for i := range 3 {
			s := sandbox(fmt.Sprintf("r%d", i))
			ip := add(t, n, s)
			serve(t, n.NetNS(s.ID), ip, 80)
			start := time.Now()
			conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(ip, 80).String(), 10*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
			ask(t, n.NetNS("neighbour"), ip, 80)
			if took := time.Since(start); took > 500*time.Millisecond {
				t.Errorf("the %d. Pod was reached after %v", i+1, took)
			}
			if err := n.Remove(context.Background(), s); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(n.GC(context.Background(), nothing), n.Destroy()); err != nil {
			t.Error(err)
		}
	})
}

// TestTheFirstPodIsReachedAtOnce has a bridge that was down before, as it is without a Pod.
func TestTheFirstPodIsReachedAtOnce(t *testing.T) {
	n := open(t, nil)
	asHost(t, func() {
		for i := range 4 {
			s := sandbox(fmt.Sprintf("f%d", i))
			ip := add(t, n, s)
			start := time.Now()
			conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(ip, 80).String(), 10*time.Second)
			if err == nil {
				conn.Close()
			}
			if took := time.Since(start); !errors.Is(err, unix.ECONNREFUSED) || took > 500*time.Millisecond {
				t.Errorf("after %v it says %v", took, err)
			}
			if err := n.Remove(context.Background(), s); err != nil {
				t.Fatal(err)
			}
		}
		if err := n.Destroy(); err != nil {
			t.Error(err)
		}
	})
}

// TestManyPodsAtOnce gives each an address of its own, with and without host ports, and leaves nothing.
func TestManyPodsAtOnce(t *testing.T) {
	eachWay(t, func(t *testing.T, open way) {
		const pods = 40
		n := open(t, nil)
		var mu sync.Mutex
		seen := map[netip.Addr]string{}
		var group sync.WaitGroup
		each := func(f func(Sandbox) error) {
			for i := range pods {
				s := sandbox(fmt.Sprintf("m%d", i))
				if i%8 == 0 {
					s.Ports = []Port{{HostPort: int32(38100 + i), ContainerPort: 80}}
				}
				group.Go(func() {
					if err := f(s); err != nil {
						t.Error(err)
					}
				})
			}
			group.Wait()
		}
		each(func(s Sandbox) error {
			if err := n.CreateNetNS(s.ID); err != nil {
				return err
			}
			ips, err := n.Add(context.Background(), s)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if other := seen[ips[0]]; other != "" {
				return fmt.Errorf("%s has the address of %s, %s", s.ID, other, ips[0])
			}
			seen[ips[0]] = s.ID
			return nil
		})
		if got := leaseCount(t, n); got != pods {
			t.Errorf("got %d addresses in use, want %d", got, pods)
		}
		each(func(s Sandbox) error { return n.Remove(context.Background(), s) })
		if got := leaseCount(t, n); got != 0 {
			t.Errorf("%d addresses are left", got)
		}
	})
}

// TestANameInUseIsTriedAgain makes pairs whose end in the Pod is there already, which no name helps.
func TestANameInUseIsTriedAgain(t *testing.T) {
	n := open(t, nil)
	add(t, n, sandbox("v1"))
	s, err := n.openSides("v1")
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if _, err := s.makePair(); !errors.Is(err, unix.EEXIST) {
		t.Errorf("got %v", err)
	}
}
