package node

import (
	"context"
	"errors"

	"github.com/podkeeper/podkeeper/agent/inputs"
	"github.com/podkeeper/podkeeper/runtime"
	"github.com/podkeeper/podkeeper/runtime/credentials"
)

// Pulling is who is told while an image is pulled.
type Pulling struct {
	Begin    func(image string)      // before the registry is asked
	Progress func(done, total int64) // bytes
}

// Prepare makes image and writable layer of an instance ready, and the images that are its volumes. Its errors are Faults, or that containerd is away.
func (n *Node) Prepare(ctx context.Context, t Target, told Pulling) (Pull, error) {
	given, err := pullCredentials(t)
	if err != nil {
		return Pull{}, err
	}
	part, span := Part(ctx, "ensure image")
	pull, err := n.Runtime.EnsureImage(part, runtime.Request{
		Image: t.Container.Image, Policy: t.Container.ImagePullPolicy, Credentials: given, Progress: told.Progress,
		Pulling: func() {
			span.AddEvent("pulling")
			told.Begin(t.Container.Image)
		},
	})
	EndPart(span, err)
	if err != nil {
		return pull, imageFault(err)
	}
	if err := n.mountImages(ctx, t, given, told); err != nil {
		return pull, err
	}
	part, span = Part(ctx, "prepare layer")
	err = n.Runtime.PrepareLayer(part, t.ID(), pull.Image, n.labels(t))
	EndPart(span, err)
	if err != nil {
		return pull, &Fault{Reason: CreateContainerError, Err: err}
	}
	return pull, nil
}

// pullCredentials are what the Pod's imagePullSecrets hold. Those that are missing, or hold none by their type, are left out
// (kubernetes/kubernetes pkg/kubelet/kubelet_pods.go, getPullSecretsForPod; pkg/credentialprovider/secrets).
func pullCredentials(t Target) ([]credentials.Credential, error) {
	var all []credentials.Credential
	secrets, _ := inputs.PullSecrets(t.Pod, t.Objects)
	for _, secret := range secrets {
		found, err := credentials.FromSecret(secret)
		if err != nil && !errors.Is(err, credentials.ErrNotForPulls) {
			return nil, &Fault{Reason: ErrImagePull, Err: err}
		}
		all = append(all, found...)
	}
	return all, nil
}
