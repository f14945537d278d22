package manifests

import (
	"maps"
	"reflect"
	"testing"

	v1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

// TestEveryFieldHasARule walks all of every kind. What is below a refused or dropped field goes with it.
func TestEveryFieldHasARule(t *testing.T) {
	t.Parallel()
	owners := make(map[string]reflect.Type)
	used := make(map[string]bool)
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || leaf(typ) {
			return
		}
		for _, f := range jsonFields(typ) {
			key := f.owner + "." + f.name
			r, ok := rules[key]
			if !ok {
				t.Errorf("%s is on no list: podkeeper must either do what it says or refuse it", key)
			}
			first := !used[key]
			used[key] = true
			if first && (r.verdict == yes || r.verdict == some) {
				walk(f.typ)
			}
		}
		if was, ok := owners[typ.Name()]; ok && !maps.EqualFunc(jsonFields(was), jsonFields(typ), func(jsonField, jsonField) bool { return true }) {
			t.Errorf("two types are called %s, and have other fields: %s and %s", typ.Name(), was, typ)
		}
		owners[typ.Name()] = typ
	}
	for _, k := range kinds {
		walk(k.typ)
	}
	for key := range rules {
		if !used[key] {
			t.Errorf("%s has a rule, but nothing has such a field", key)
		}
	}
}

func TestRefusedFieldsAreRefusedHoweverTheyAreSet(t *testing.T) {
	t.Parallel()
	for key, r := range rules {
		if r.verdict != no {
			continue
		}
		found := false
		for _, owner := range []any{
			v1.PodSpec{}, v1.Container{}, v1.PodSecurityContext{}, v1.SecurityContext{}, v1.VolumeSource{}, v1.VolumeMount{},
			v1.EnvVarSource{}, v1.ResourceRequirements{}, v1.HTTPGetAction{}, v1.GRPCAction{}, v1.EmptyDirVolumeSource{},
			v1.VolumeProjection{}, v1.DownwardAPIVolumeFile{}, v1.DownwardAPIVolumeSource{}, v1.KeyToPath{}, v1.ConfigMapVolumeSource{}, v1.SecretVolumeSource{}, v1.ProjectedVolumeSource{}, v1.Pod{}.ObjectMeta,
			v1.PersistentVolumeSpec{}, v1.PersistentVolumeClaimSpec{}, v1.LocalVolumeSource{}, rbacv1.ClusterRole{}, v1.NodeSpec{}, v1.ServiceAccountTokenProjection{},
		} {
			v := reflect.New(reflect.TypeOf(owner)).Elem()
			for _, f := range jsonFields(v.Type()) {
				if f.owner+"."+f.name != key {
					continue
				}
				found = true
				fill(v.FieldByIndex(f.index))
				if faults := unsupported(v, nil); len(faults) != 1 || faults[0].field != f.name {
					t.Errorf("%s is set and gives %v", key, faults)
				}
			}
		}
		if !found {
			t.Errorf("%s is not tried", key)
		}
	}
}

// fill sets something as unremarkable as can be.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.Zero(v.Type().Key()), reflect.Zero(v.Type().Elem()))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		v.SetString("x")
	default:
		v.SetInt(1)
	}
}
