package manifests

import (
	"fmt"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/apis/authentication"
	authenticationconv "k8s.io/kubernetes/pkg/apis/authentication/v1"
	"k8s.io/kubernetes/pkg/apis/authentication/validation"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"
)

// TokenRequest reads a request for a token of a service account, in JSON or YAML, with Kubernetes' defaults. The error says what is
// wrong with it, in its words.
func TokenRequest(data []byte) (*authenticationv1.TokenRequest, error) {
	request := new(authenticationv1.TokenRequest)
	if err := yaml.UnmarshalStrict(data, request); err != nil {
		return nil, fmt.Errorf("read request for a token: %w", err)
	}
	authenticationconv.SetObjectDefaults_TokenRequest(request)
	internal := new(authentication.TokenRequest)
	if err := authenticationconv.Convert_v1_TokenRequest_To_authentication_TokenRequest(request.DeepCopy(), internal, nil); err != nil {
		return nil, fmt.Errorf("read request for a token: %w", err)
	}
	if faults := validation.ValidateTokenRequest(internal); len(faults) > 0 {
		return nil, fmt.Errorf("TokenRequest.authentication.k8s.io %q is invalid: %w", request.Name, faults.ToAggregate())
	}
	return request, nil
}

// What the admission plugin ServiceAccount gives to Pods (kubernetes/kubernetes plugin/pkg/admission/serviceaccount).
const (
	tokenVolume    = "kube-api-access-"
	tokenMountPath = "/var/run/secrets/kubernetes.io/serviceaccount"
	rootCAName     = "kube-root-ca.crt"
	// tokenLife is the one of its tokens, in seconds.
	tokenLife = 3607
)

// mountToken gives a Pod that says automountServiceAccountToken: true the volume that Kubernetes gives to every Pod that does not say
// false: a token, the API's certificate authority, and the namespace. A volume of that kind that is there is taken; the name of
// one that is made is always the same, for what a Pod is made of may be worked out more than once. A token is that of the account
// default where the Pod names none.
func mountToken(pod *v1.Pod) {
	if ptr.Deref(pod.Spec.AutomountServiceAccountToken, false) {
		mountTokenVolume(pod)
	}
	if pod.Spec.ServiceAccountName == "" && slices.ContainsFunc(pod.Spec.Volumes, hasToken) {
		pod.Spec.ServiceAccountName, pod.Spec.DeprecatedServiceAccount = "default", "default"
	}
}

func hasToken(v v1.Volume) bool {
	return v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(s v1.VolumeProjection) bool { return s.ServiceAccountToken != nil })
}

func mountTokenVolume(pod *v1.Pod) {
	name := tokenVolume + "token"
	at := slices.IndexFunc(pod.Spec.Volumes, func(v v1.Volume) bool { return strings.HasPrefix(v.Name, tokenVolume) })
	if at >= 0 {
		name = pod.Spec.Volumes[at].Name
	}
	mounted := false
	for _, containers := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			c := &containers[i]
			if !slices.ContainsFunc(c.VolumeMounts, func(m v1.VolumeMount) bool { return m.MountPath == tokenMountPath }) {
				c.VolumeMounts = append(c.VolumeMounts, v1.VolumeMount{Name: name, ReadOnly: true, MountPath: tokenMountPath})
				mounted = true
			}
		}
	}
	if mounted && at < 0 {
		pod.Spec.Volumes = append(pod.Spec.Volumes, v1.Volume{Name: name, VolumeSource: v1.VolumeSource{Projected: tokenSource()}})
	}
}

func tokenSource() *v1.ProjectedVolumeSource {
	return &v1.ProjectedVolumeSource{
		DefaultMode: ptr.To(v1.ProjectedVolumeSourceDefaultMode),
		Sources: []v1.VolumeProjection{
			{ServiceAccountToken: &v1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr.To[int64](tokenLife)}},
			{ConfigMap: &v1.ConfigMapProjection{
				LocalObjectReference: v1.LocalObjectReference{Name: rootCAName}, Items: []v1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
			}},
			{DownwardAPI: &v1.DownwardAPIProjection{Items: []v1.DownwardAPIVolumeFile{{
				Path: "namespace", FieldRef: &v1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"},
			}}}},
		},
	}
}
