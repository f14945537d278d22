package pullrecords

import (
	"fmt"
	"slices"
	"strings"

	"github.com/distribution/reference"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

// Policy says of which images that are present the right to use them is verified: imagePullCredentialsVerificationPolicy
// and preloadedImagesVerificationAllowlist of the kubelet's configuration. The zero value is Kubernetes' default.
type Policy struct {
	Verification kubeletconfig.ImagePullCredentialsVerificationPolicy // empty is NeverVerifyPreloadedImages
	Allowlist    []string                                             // of NeverVerifyAllowlistedImages: names, or PREFIX/*
}

// policies are the values that there are.
var policies = []kubeletconfig.ImagePullCredentialsVerificationPolicy{
	kubeletconfig.NeverVerify, kubeletconfig.NeverVerifyPreloadedImages,
	kubeletconfig.NeverVerifyAllowlistedImages, kubeletconfig.AlwaysVerify,
}

// CheckVerification fails where there is no such policy. Empty is the default.
func (p Policy) CheckVerification() error {
	if p.Verification == "" || slices.Contains(policies, p.Verification) {
		return nil
	}
	return fmt.Errorf("is %q: must be one of %q", p.Verification, policies)
}

// CheckAllowlist fails where there is a list that the policy does not heed, or a pattern that means nothing
// (kubernetes/kubernetes pkg/kubelet/images/pullmanager/image_pull_policies.go).
func (p Policy) CheckAllowlist() error {
	if len(p.Allowlist) > 0 && p.Verification != kubeletconfig.NeverVerifyAllowlistedImages {
		return fmt.Errorf("is only for imagePullCredentialsVerificationPolicy: %s",
			kubeletconfig.NeverVerifyAllowlistedImages)
	}
	for _, pattern := range p.Allowlist {
		prefix, wildcard := strings.CutSuffix(pattern, "/*")
		named, err := reference.ParseNormalizedNamed(prefix)
		if wildcard { // a host alone, or one with a path
			named, err = reference.ParseNormalizedNamed(prefix + "/x")
		}
		if err != nil || !reference.IsNameOnly(named) {
			return fmt.Errorf("has %q: must be an image without tag and digest, such as registry.example/app, or a prefix, "+
				"such as registry.example/*", pattern)
		}
	}
	return nil
}

// verifies says whether the right to an image must be shown. ours is that it was pulled here.
func (p Policy) verifies(image Image, ours bool) bool {
	switch p.Verification {
	case kubeletconfig.NeverVerify:
		return false
	case kubeletconfig.NeverVerifyAllowlistedImages:
		return !p.lists(image)
	case kubeletconfig.AlwaysVerify:
		return true
	default:
		return ours
	}
}

// lists says whether an image is on the list. Unlike the kubelet, which knows it only as the Pod has it, its full name counts,
// too: docker.io/library/busybox on the list is the Pod's busybox.
func (p Policy) lists(image Image) bool {
	asked := image.Asked
	if named, err := reference.Parse(asked); err == nil {
		if named, ok := named.(reference.Named); ok {
			asked = reference.TrimNamed(named).Name()
		}
	}
	return slices.ContainsFunc(p.Allowlist, func(pattern string) bool {
		prefix, wildcard := strings.CutSuffix(pattern, "*")
		for _, name := range []string{asked, image.repository()} {
			if wildcard && strings.HasPrefix(name, prefix) || pattern == name {
				return true
			}
		}
		return false
	})
}
