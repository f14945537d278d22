package storage

import (
	"fmt"

	authentication "k8s.io/api/authentication/v1"
	authorization "k8s.io/api/authorization/v1"
	coordination "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	node "k8s.io/api/node/v1"
	policy "k8s.io/api/policy/v1"
	rbac "k8s.io/api/rbac/v1"
	scheduling "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	metrics "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/podkeeper/podkeeper/manifests"
)

// Scheme is the types that are served, with Kubernetes' defaults. There is one version of each, which is the hub as well.
var Scheme = newScheme()

// Codecs read and write them.
var Codecs = serializer.NewCodecFactory(Scheme, serializer.WithStreamingCollectionEncodingToJSON(), serializer.WithStreamingCollectionEncodingToProtobuf())

func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		v1.AddToScheme, scheduling.AddToScheme, node.AddToScheme, coordination.AddToScheme, discovery.AddToScheme, rbac.AddToScheme,
		authentication.AddToScheme, authorization.AddToScheme, policy.AddToScheme, metrics.AddToScheme, eventsv1.AddToScheme,
	} {
		utilruntime.Must(add(s))
	}
	metav1.AddToGroupVersion(s, schema.GroupVersion{Version: "v1"})
	for _, r := range Resources() {
		utilruntime.Must(s.AddFieldLabelConversionFunc(r.GroupVersionKind(), func(label, value string) (string, string, error) {
			if !r.selectable(label) {
				return "", "", fmt.Errorf("field label not supported: %s", label)
			}
			return label, value, nil
		}))
	}
	utilruntime.Must(s.AddFieldLabelConversionFunc(newEvents().GroupVersionKind(), eventLabel))
	for _, k := range manifests.Kinds() {
		s.AddTypeDefaultingFunc(k.New(), func(o any) { manifests.Default(o.(metav1.Object)) })
	}
	return s
}

// Decode reads an object as the agent writes it. Its kind is that of its type alone, as within the handlers.
func Decode(body []byte) (runtime.Object, error) {
	object, _, err := Codecs.UniversalDeserializer().Decode(body, nil, nil)
	if err != nil {
		return nil, err
	}
	Scheme.Default(object)
	object.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	return object, nil
}
