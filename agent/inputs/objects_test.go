package inputs

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/manifests"
)

// some are objects of the namespace shop, and one of another.
func some() Objects {
	objects := Objects{}
	for _, o := range []manifests.Object{
		{Kind: manifests.KindConfigMap, Object: &v1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "settings"},
			Data:       map[string]string{"b": "2", "a": "1"}, BinaryData: map[string][]byte{"raw": {0xff}},
		}},
		{Kind: manifests.KindSecret, Object: &v1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "keys"}, Data: map[string][]byte{"password": []byte("hunter2"), "a": []byte("secret")},
		}},
		{Kind: manifests.KindConfigMap, Object: &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "other", Name: "theirs"}}},
	} {
		objects[o.Key()] = o
	}
	return objects
}

func named(name string) v1.LocalObjectReference { return v1.LocalObjectReference{Name: name} }

func mapKey(name, key string, optional *bool) *v1.EnvVarSource {
	return &v1.EnvVarSource{ConfigMapKeyRef: &v1.ConfigMapKeySelector{LocalObjectReference: named(name), Key: key, Optional: optional}}
}

func secretKey(name, key string, optional *bool) *v1.EnvVarSource {
	return &v1.EnvVarSource{SecretKeyRef: &v1.SecretKeySelector{LocalObjectReference: named(name), Key: key, Optional: optional}}
}

func fromMap(name, prefix string, optional *bool) v1.EnvFromSource {
	return v1.EnvFromSource{Prefix: prefix, ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: named(name), Optional: optional}}
}

func fromSecret(name, prefix string, optional *bool) v1.EnvFromSource {
	return v1.EnvFromSource{Prefix: prefix, SecretRef: &v1.SecretEnvSource{LocalObjectReference: named(name), Optional: optional}}
}

func TestEnvironmentFromObjects(t *testing.T) {
	t.Parallel()
	may := ptr.To(true)
	for sentence, c := range map[string]struct {
		from []v1.EnvFromSource
		env  []v1.EnvVar
		want []string
		err  string
	}{
		"all of a ConfigMap, sorted, without what is binary": {
			from: []v1.EnvFromSource{fromMap("settings", "", nil)}, want: []string{"a=1", "b=2"},
		},
		"a prefix": {from: []v1.EnvFromSource{fromSecret("keys", "K_", nil)}, want: []string{"K_a=secret", "K_password=hunter2"}},
		"the later source wins, and env over both": {
			from: []v1.EnvFromSource{fromMap("settings", "", nil), fromSecret("keys", "", nil)}, env: []v1.EnvVar{{Name: "b", Value: "mine"}},
			want: []string{"a=secret", "b=mine", "password=hunter2"},
		},
		"one key": {
			env:  []v1.EnvVar{{Name: "A", ValueFrom: mapKey("settings", "a", nil)}, {Name: "P", ValueFrom: secretKey("keys", "password", nil)}},
			want: []string{"A=1", "P=hunter2"},
		},
		"$(VAR) finds what objects say": {
			from: []v1.EnvFromSource{fromMap("settings", "", nil)}, env: []v1.EnvVar{{Name: "C", Value: "$(a)$(b)$(c)"}}, want: []string{"a=1", "b=2", "C=12$(c)"},
		},
		"what need not be there sets nothing": {
			from: []v1.EnvFromSource{fromMap("none", "", may), fromSecret("none", "", may)},
			env: []v1.EnvVar{
				{Name: "A", ValueFrom: mapKey("none", "a", may)}, {Name: "B", ValueFrom: mapKey("settings", "none", may)},
				{Name: "C", ValueFrom: secretKey("none", "a", may)}, {Name: "D", ValueFrom: secretKey("keys", "none", may)}, {Name: "E", Value: "$(A)"},
			},
			want: []string{"E=$(A)"},
		},
		"a ConfigMap that is missing":              {env: []v1.EnvVar{{Name: "A", ValueFrom: mapKey("none", "a", nil)}}, err: `configmap "none" not found`},
		"a Secret that is missing":                 {env: []v1.EnvVar{{Name: "A", ValueFrom: secretKey("none", "a", nil)}}, err: `secret "none" not found`},
		"a ConfigMap that is missing, as a source": {from: []v1.EnvFromSource{fromMap("none", "", nil)}, err: `configmap "none" not found`},
		"a Secret that is missing, as a source":    {from: []v1.EnvFromSource{fromSecret("none", "", nil)}, err: `secret "none" not found`},
		"one of another namespace":                 {from: []v1.EnvFromSource{fromMap("theirs", "", nil)}, err: `configmap "theirs" not found`},
		"a key that is missing":                    {env: []v1.EnvVar{{Name: "A", ValueFrom: mapKey("settings", "none", nil)}}, err: "couldn't find key none in ConfigMap shop/settings"},
		"what is binary is no variable":            {env: []v1.EnvVar{{Name: "A", ValueFrom: mapKey("settings", "raw", nil)}}, err: "couldn't find key raw in ConfigMap shop/settings"},
		"a key of a Secret that is missing":        {env: []v1.EnvVar{{Name: "A", ValueFrom: secretKey("keys", "none", nil)}}, err: "couldn't find key none in Secret shop/keys"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			got, _, err := Environment(Facts{
				Pod: &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}}, Container: &v1.Container{EnvFrom: c.from, Env: c.env}, Objects: some(),
			})
			if c.err != "" {
				if err == nil || err.Error() != c.err {
					t.Errorf("error %v, want %s", err, c.err)
				}
				return
			}
			if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestEnvironmentFromFiles(t *testing.T) {
	t.Parallel()
	broken := errors.New("line 1: missing '='")
	file := func(from *v1.FileKeySelector) (string, bool, error) {
		switch from.Path {
		case "there":
			return map[string]string{"A": "1", "EMPTY": ""}[from.Key], true, nil
		case "broken":
			return "", false, broken
		}
		return "", false, nil
	}
	for sentence, c := range map[string]struct {
		path, key string
		optional  bool
		want, err string
	}{
		"a variable":                        {path: "there", key: "A", want: "X=1"},
		"a variable that is missing":        {path: "there", key: "B", err: `environment variable key "B" not found in file "there"`},
		"a variable that is empty":          {path: "there", key: "EMPTY", err: `environment variable key "EMPTY" not found in file "there"`},
		"a file that is missing":            {path: "none", key: "A", err: `environment variable key "A" not found in file "none"`},
		"a file that cannot be read":        {path: "broken", key: "A", err: broken.Error()},
		"a variable that need not be there": {path: "there", key: "B", optional: true},
		"a file that need not be there":     {path: "none", key: "A", optional: true},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			from := &v1.FileKeySelector{VolumeName: "v", Path: c.path, Key: c.key, Optional: &c.optional}
			got, _, err := Environment(Facts{Pod: &v1.Pod{}, EnvFile: file, Container: &v1.Container{
				Env: []v1.EnvVar{{Name: "X", ValueFrom: &v1.EnvVarSource{FileKeyRef: from}}},
			}})
			if strings.Join(got, " ") != c.want || err != nil && err.Error() != c.err || err == nil && c.err != "" {
				t.Errorf("got %q and error %v, want %q and %q", got, err, c.want, c.err)
			}
		})
	}
}

func TestFilesFromObjects(t *testing.T) {
	t.Parallel()
	may, all := ptr.To(true), ptr.To[int32](0o600)
	items := func(key, path string, mode *int32) []v1.KeyToPath {
		return []v1.KeyToPath{{Key: key, Path: path, Mode: mode}}
	}
	configMap := func(name string, optional *bool, items []v1.KeyToPath) v1.VolumeSource {
		return v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: named(name), Optional: optional, Items: items}}
	}
	secret := func(name string, optional *bool, items []v1.KeyToPath) v1.VolumeSource {
		return v1.VolumeSource{Secret: &v1.SecretVolumeSource{SecretName: name, DefaultMode: all, Optional: optional, Items: items}}
	}
	projected := func(sources ...v1.VolumeProjection) v1.VolumeSource {
		return v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: sources}}
	}
	for sentence, c := range map[string]struct {
		source v1.VolumeSource
		want   []File
		err    string
	}{
		"all of a ConfigMap": {source: configMap("settings", nil, nil), want: []File{
			{"a", []byte("1"), 0o644, nil}, {"b", []byte("2"), 0o644, nil}, {"raw", []byte{0xff}, 0o644, nil},
		}},
		"all of a Secret":         {source: secret("keys", nil, nil), want: []File{{"a", []byte("secret"), 0o600, nil}, {"password", []byte("hunter2"), 0o600, nil}}},
		"one key, elsewhere":      {source: secret("keys", nil, items("password", "in/here", ptr.To[int32](0o400))), want: []File{{"in/here", []byte("hunter2"), 0o400, nil}}},
		"what need not be there":  {source: configMap("none", may, nil), want: []File{}},
		"a key that need not be":  {source: secret("keys", may, items("none", "x", nil)), want: []File{}},
		"one that is missing":     {source: configMap("none", nil, nil), err: `configmap "none" not found`},
		"a Secret that is":        {source: secret("none", nil, nil), err: `secret "none" not found`},
		"a key that is missing":   {source: configMap("settings", nil, items("none", "x", nil)), err: "configmap references non-existent config key: none"},
		"a Secret's that is":      {source: secret("keys", nil, items("none", "x", nil)), err: "references non-existent secret key: none"},
		"one of many that is not": {source: projected(v1.VolumeProjection{Secret: &v1.SecretProjection{LocalObjectReference: named("none")}}), err: `secret "none" not found`},
		"of one path the later source's is there": {
			source: projected(
				v1.VolumeProjection{ConfigMap: &v1.ConfigMapProjection{LocalObjectReference: named("settings"), Items: items("a", "a", nil)}},
				v1.VolumeProjection{Secret: &v1.SecretProjection{LocalObjectReference: named("keys"), Items: items("a", "a", nil)}},
			),
			want: []File{{"a", []byte("secret"), 0o644, nil}},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}, Spec: v1.PodSpec{Volumes: []v1.Volume{{Name: "v", VolumeSource: c.source}}}}
			got, err := Files(Facts{Pod: pod, Objects: some()})
			if c.err != "" {
				if want := `MountVolume.SetUp failed for volume "v" : ` + c.err; err == nil || err.Error() != want {
					t.Errorf("error %v, want %s", err, want)
				}
				return
			}
			if diff := cmp.Diff(map[string][]File{"v": c.want}, got); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestAVolumeWithoutItsObjectHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	volume := func(name, of string) v1.Volume {
		return v1.Volume{Name: name, VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: named(of)}}}
	}
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}, Spec: v1.PodSpec{
		Volumes: []v1.Volume{volume("a", "none"), volume("b", "settings"), volume("c", "gone")},
	}}
	files, err := Files(Facts{Pod: pod, Objects: some()})
	if len(files) != 1 || len(files["b"]) != 3 {
		t.Errorf("files are %v", files)
	}
	const want = "MountVolume.SetUp failed for volume \"a\" : configmap \"none\" not found\nMountVolume.SetUp failed for volume \"c\" : configmap \"gone\" not found"
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestReferences(t *testing.T) {
	t.Parallel()
	may := ptr.To(true)
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}, Spec: v1.PodSpec{
		ImagePullSecrets: []v1.LocalObjectReference{named("registry")},
		InitContainers:   []v1.Container{{Name: "init", EnvFrom: []v1.EnvFromSource{fromMap("init", "", nil)}}},
		Containers: []v1.Container{{
			Name: "app", EnvFrom: []v1.EnvFromSource{fromSecret("both", "", may)},
			Env: []v1.EnvVar{{Name: "A", ValueFrom: secretKey("both", "a", nil)}, {Name: "B", ValueFrom: mapKey("spare", "b", may)}},
		}},
		Volumes: []v1.Volume{
			{Name: "m", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: named("files")}}},
			{Name: "s", VolumeSource: v1.VolumeSource{Secret: &v1.SecretVolumeSource{SecretName: "files", Optional: may}}},
			{Name: "p", VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{
				{ConfigMap: &v1.ConfigMapProjection{LocalObjectReference: named("projected")}},
				{Secret: &v1.SecretProjection{LocalObjectReference: named("projected")}},
			}}}},
		},
	}}
	key := func(kind, name string) manifests.Key {
		return manifests.Key{Kind: kind, NamespacedName: types.NamespacedName{Namespace: "shop", Name: name}}
	}
	want := map[manifests.Key]bool{
		key("Secret", "registry"): false, key("ConfigMap", "init"): true, key("Secret", "both"): true, key("ConfigMap", "spare"): false,
		key("ConfigMap", "files"): true, key("Secret", "files"): false, key("ConfigMap", "projected"): true, key("Secret", "projected"): true,
	}
	if diff := cmp.Diff(want, References(pod)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
