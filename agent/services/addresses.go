// Package services works out what Kubernetes' controllers make of Services: their addresses, and the Endpoints and EndpointSlices of
// the Pods that they select. It is pure, and must not know where Services and Pods come from, nor that nothing is forwarded.
package services

import (
	"fmt"
	"hash/fnv"
	"net/netip"

	"k8s.io/apimachinery/pkg/types"
)

// Range is where addresses of Services are from. Those below first are for Services that ask for one by themselves.
var (
	Range = netip.MustParsePrefix("10.96.0.0/16")
	first = netip.MustParseAddr("10.96.1.0")
	last  = netip.MustParseAddr("10.96.255.254")
)

// Pick finds an address for a Service that is not taken: by its name, so that it is likely to get the same one again.
func Pick(name types.NamespacedName, taken map[netip.Addr]bool) (netip.Addr, error) {
	from, size := number(first), number(last)-number(first)+1
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(name.String())) // never fails
	for i := range size {
		if at := address(from + (hash.Sum32()+i)%size); !taken[at] {
			return at, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("all addresses of %s are taken", Range)
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func address(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}
