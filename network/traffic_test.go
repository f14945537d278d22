package network

import (
	"slices"
	"testing"
)

func TestTrafficOfAPodAndOfTheNode(t *testing.T) {
	n := open(t, nil)
	add(t, n, sandbox("a"))
	ip := add(t, n, sandbox("b"))
	serve(t, n.NetNS("b"), ip, 80)
	ask(t, n.NetNS("a"), ip, 80)
	found, err := n.Traffic("a")
	if err != nil || len(found) != 1 {
		t.Fatalf("of a Pod: %v, %v", found, err)
	}
	if own := found[0]; own.Name != "eth0" || !own.Default || own.RxBytes == 0 || own.TxBytes == 0 {
		t.Errorf("of a Pod: %+v", own)
	}
	if found, err := n.Traffic("c"); err == nil {
		t.Errorf("of one that is not there: %v", found)
	}
	found, err = n.Traffic("")
	if err != nil {
		t.Error(err)
	}
	if slices.ContainsFunc(found, func(i Interface) bool { return i.Name == "lo" || i.Name == n.bridge }) {
		t.Errorf("of the node: %+v", found)
	}
}
