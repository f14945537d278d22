package network

import (
	"context"
	"fmt"

	"github.com/containernetworking/cni/libcni"
)

// attachments are the recorded additions of a sandbox. To look for them libcni lists its whole cache, which holds all Pods;
// so a sandbox that is known to have none, as every new one is, is not looked for.
func (n *Network) attachments(id string) ([]*libcni.NetworkAttachment, error) {
	n.recordMu.Lock()
	err := n.readRecords()
	_, known := n.recorded[id]
	n.recordMu.Unlock()
	if err != nil || !known {
		return nil, err
	}
	attachments, err := n.cni.GetCachedAttachments(id)
	if err != nil {
		return nil, fmt.Errorf("read attachments of sandbox %s: %w", id, err)
	}
	return attachments, nil
}

// readRecords reads once what an earlier agent has recorded. The caller holds recordMu.
func (n *Network) readRecords() error {
	if n.recorded != nil {
		return nil
	}
	attachments, err := n.cni.GetCachedAttachments("")
	if err != nil {
		return fmt.Errorf("list attachments: %w", err)
	}
	n.recorded = map[string]bool{}
	for _, a := range attachments {
		n.recorded[a.ContainerID] = n.recorded[a.ContainerID] || a.CapabilityArgs[portCapability] != nil
	}
	return nil
}

// note notes that a sandbox is in the cache.
func (n *Network) note(id string, ports bool) {
	n.recordMu.Lock()
	defer n.recordMu.Unlock()
	if n.recorded != nil { // else it will be read
		n.recorded[id] = ports
	}
}

// forget notes that a sandbox is no longer in the cache.
func (n *Network) forget(id string) {
	n.recordMu.Lock()
	defer n.recordMu.Unlock()
	delete(n.recorded, id)
}

// hold keeps others from a sandbox's attachments until it is released: a host port that is restored while its Pod is
// removed would stay for ever.
func (n *Network) hold(ctx context.Context, id string) (release func(), err error) {
	mine := make(chan struct{})
	for {
		n.recordMu.Lock()
		theirs := n.held[id]
		if theirs == nil {
			n.held[id] = mine
		}
		n.recordMu.Unlock()
		if theirs == nil {
			break
		}
		select {
		case <-theirs:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for another change of sandbox %s: %w", id, ctx.Err())
		}
	}
	return func() {
		n.recordMu.Lock()
		defer n.recordMu.Unlock()
		delete(n.held, id)
		close(mine)
	}, nil
}
