package inputs

import (
	"cmp"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/manifests"
)

// AccountOf is the name of a Pod's service account: to Kubernetes every Pod has one.
func AccountOf(pod *v1.Pod) string { return cmp.Or(pod.Spec.ServiceAccountName, "default") }

// token is the file of a token. Its owner and mode are those that the kubelet gives it (kubernetes/kubernetes
// pkg/volume/projected): where one user runs all containers it is his alone, and with fsGroup the group may read it, too.
func (f *Facts) token(from *v1.ServiceAccountTokenProjection, mode int32) ([]File, error) {
	account, _ := f.object(manifests.KindServiceAccount, AccountOf(f.Pod)).(*v1.ServiceAccount)
	signed, err := f.Token(from, account)
	if err != nil {
		return nil, err
	}
	file := File{Path: from.Path, Data: []byte(signed), Mode: mode, User: soleUser(f.Pod)}
	if file.User != nil || f.Pod.Spec.SecurityContext != nil && f.Pod.Spec.SecurityContext.FSGroup != nil {
		file.Mode = 0o600
	}
	return []File{file}, nil
}

// soleUser is the user that a Pod names for all of its containers, nil where it does not (kubernetes/kubernetes pkg/volume/util,
// FsUserFrom).
func soleUser(pod *v1.Pod) (sole *int64) {
	for _, c := range plan.Containers(pod) {
		var user *int64
		if of := pod.Spec.SecurityContext; of != nil {
			user = of.RunAsUser
		}
		if of := c.SecurityContext; of != nil && of.RunAsUser != nil {
			user = of.RunAsUser
		}
		if user == nil || sole != nil && *sole != *user {
			return nil
		}
		sole = user
	}
	return sole
}

// Life is how long a token is to be valid.
func Life(from *v1.ServiceAccountTokenProjection) time.Duration {
	return time.Duration(ptr.Deref(from.ExpirationSeconds, 3600)) * time.Second
}

// RenewAt is when the first of the tokens in a Pod's volumes that were signed at some time is to be another one: after 80 % of its
// life, or a day (kubernetes/kubernetes pkg/kubelet/token). It is zero where there is none.
func RenewAt(pod *v1.Pod, signed time.Time) (first time.Time) {
	for i := range pod.Spec.Volumes {
		for _, source := range projections(&pod.Spec.Volumes[i]) {
			if source.ServiceAccountToken == nil {
				continue
			}
			at := signed.Add(min(Life(source.ServiceAccountToken)/5*4, 24*time.Hour))
			if first.IsZero() || at.Before(first) {
				first = at
			}
		}
	}
	return first
}
