package inputs

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/manifests"
)

// withTokens is a Pod with tokens of these lives in a volume, at token-0 and so on, and a container.
func withTokens(lives ...time.Duration) *v1.Pod {
	source := &v1.ProjectedVolumeSource{DefaultMode: ptr.To[int32](0o644)}
	for i, life := range lives {
		source.Sources = append(source.Sources, v1.VolumeProjection{ServiceAccountToken: &v1.ServiceAccountTokenProjection{
			Path: "token-" + string(rune('0'+i)), Audience: "vault", ExpirationSeconds: ptr.To(int64(life / time.Second)),
		}})
	}
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}, Spec: v1.PodSpec{
		Containers: []v1.Container{{Name: "app"}}, Volumes: []v1.Volume{{Name: "tokens", VolumeSource: v1.VolumeSource{Projected: source}}},
	}}
}

func TestWhoMayReadATokensFile(t *testing.T) {
	t.Parallel()
	key := manifests.Key{Kind: manifests.KindServiceAccount, NamespacedName: types.NamespacedName{Namespace: "shop", Name: "default"}}
	objects := Objects{key: {Object: &v1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default", UID: "a-1"}}}}
	for sentence, of := range map[string]struct {
		change func(*v1.Pod)
		mode   int32
		user   *int64
	}{
		"everybody, where nothing is said":   {func(*v1.Pod) {}, 0o644, nil},
		"whom the volume says":               {func(p *v1.Pod) { p.Spec.Volumes[0].Projected.DefaultMode = ptr.To[int32](0o400) }, 0o400, nil},
		"the user of the Pod":                {func(p *v1.Pod) { p.Spec.SecurityContext = &v1.PodSecurityContext{RunAsUser: ptr.To[int64](5)} }, 0o600, ptr.To[int64](5)},
		"the group, by the volume, of a Pod": {func(p *v1.Pod) { p.Spec.SecurityContext = &v1.PodSecurityContext{FSGroup: ptr.To[int64](7)} }, 0o600, nil},
		"the user of the only container": {func(p *v1.Pod) {
			p.Spec.SecurityContext = &v1.PodSecurityContext{RunAsUser: ptr.To[int64](5)}
			p.Spec.Containers[0].SecurityContext = &v1.SecurityContext{RunAsUser: ptr.To[int64](6)}
		}, 0o600, ptr.To[int64](6)},
		"everybody, where users differ": {func(p *v1.Pod) {
			p.Spec.SecurityContext = &v1.PodSecurityContext{RunAsUser: ptr.To[int64](5)}
			p.Spec.InitContainers = []v1.Container{{Name: "init", SecurityContext: &v1.SecurityContext{RunAsUser: ptr.To[int64](6)}}}
		}, 0o644, nil},
		"everybody, where one container names none": {func(p *v1.Pod) {
			p.Spec.InitContainers = []v1.Container{{Name: "init", SecurityContext: &v1.SecurityContext{RunAsUser: ptr.To[int64](6)}}}
		}, 0o644, nil},
	} {
		pod := withTokens(time.Hour)
		of.change(pod)
		got, err := Files(Facts{Pod: pod, Objects: objects, Token: func(from *v1.ServiceAccountTokenProjection, account *v1.ServiceAccount) (string, error) {
			return from.Audience + " for " + string(account.UID), nil
		}})
		want := map[string][]File{"tokens": {{Path: "token-0", Data: []byte("vault for a-1"), Mode: of.mode, User: of.user}}}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", sentence, err, diff)
		}
	}
	if !References(withTokens(time.Hour))[key] {
		t.Error("a Pod with a token does not need its service account")
	}
	if len(References(withTokens())) > 0 {
		t.Error("a Pod without one does")
	}
}

func TestATokenThatIsNotToBeHad(t *testing.T) {
	t.Parallel()
	_, err := Files(Facts{Pod: withTokens(time.Hour), Token: func(_ *v1.ServiceAccountTokenProjection, account *v1.ServiceAccount) (string, error) {
		if account != nil {
			t.Errorf("there is an account: %v", account)
		}
		return "", errors.New("there is none")
	}})
	if err == nil || err.Error() != `MountVolume.SetUp failed for volume "tokens" : there is none` {
		t.Error(err)
	}
}

func TestWhenTokensAreRenewed(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for sentence, of := range map[string]struct {
		lives []time.Duration
		want  time.Duration // 0 is never
	}{
		"never, where there are none":      {nil, 0},
		"after four fifths of their life":  {[]time.Duration{10 * time.Minute}, 8 * time.Minute},
		"one of a week, after a day":       {[]time.Duration{7 * 24 * time.Hour}, 24 * time.Hour},
		"of several, with the first":       {[]time.Duration{time.Hour, 20 * time.Minute, 2 * time.Hour}, 16 * time.Minute},
		"one of 30 h, after 24 h likewise": {[]time.Duration{30 * time.Hour}, 24 * time.Hour},
	} {
		got := RenewAt(withTokens(of.lives...), noon)
		if of.want == 0 != got.IsZero() || of.want > 0 && got.Sub(noon) != of.want {
			t.Errorf("%s: at %v", sentence, got)
		}
	}
}
