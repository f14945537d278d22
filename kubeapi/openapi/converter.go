package openapi

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

// Types converts objects for server-side apply and the bookkeeping of managed fields. The schemas of a group version
// are read when its first object comes. It is safe for concurrent use.
type Types struct {
	read map[string]func() (managedfields.TypeConverter, error) // by group version
}

var _ managedfields.TypeConverter = (*Types)(nil)

// NewTypes returns Types that have read nothing yet.
func NewTypes() *Types {
	t := &Types{read: map[string]func() (managedfields.TypeConverter, error){}}
	for _, gv := range groupVersions() {
		t.read[gv] = sync.OnceValues(func() (managedfields.TypeConverter, error) { return converterOf(gv) })
	}
	return t
}

// ObjectToTyped takes an object of a kind that is served, with its apiVersion and kind set.
func (t *Types) ObjectToTyped(o runtime.Object, opts ...typed.ValidationOptions) (*typed.TypedValue, error) {
	gvk := o.GetObjectKind().GroupVersionKind()
	read := t.read[documentOf(gvk)]
	if read == nil {
		return nil, fmt.Errorf("convert object: no schema of %s", gvk)
	}
	c, err := read()
	if err != nil {
		return nil, err
	}
	return c.ObjectToTyped(o, opts...)
}

// TypedToObject returns what ObjectToTyped was given, as unstructured.Unstructured.
func (t *Types) TypedToObject(v *typed.TypedValue) (runtime.Object, error) {
	return managedfields.NewDeducedTypeConverter().TypedToObject(v) // it needs no schema for that
}

// documentOf is the group version whose document has the schema of a kind. That of what is posted to a subresource is
// in the one of the resource.
func documentOf(gvk schema.GroupVersionKind) string {
	switch {
	case gvk.Group == "", gvk.Kind == "Eviction", gvk.Kind == "TokenRequest":
		return "api/" + gvk.Version
	default:
		return "apis/" + gvk.GroupVersion().String()
	}
}

// converterOf reads a document as far as its schemas go; nothing of it stays but what conversion needs.
func converterOf(groupVersion string) (managedfields.TypeConverter, error) {
	packed, err := packed(fileOf(groupVersion))
	if err != nil {
		return nil, fmt.Errorf("read schemas: %w", err)
	}
	text, err := unpack(packed)
	if err != nil {
		return nil, err
	}
	schemas, err := readSchemas(text)
	if err != nil {
		return nil, fmt.Errorf("read schemas of %s: %w", groupVersion, err)
	}
	c, err := managedfields.NewTypeConverter(schemas, false)
	if err != nil {
		return nil, fmt.Errorf("convert schemas of %s: %w", groupVersion, err)
	}
	return c, nil
}

// readSchemas reads {"components":{"schemas":{NAME: SCHEMA, …, with which a document begins, one schema at a time.
func readSchemas(text io.Reader) (map[string]*spec.Schema, error) {
	d := json.NewDecoder(text)
	for _, want := range []json.Token{json.Delim('{'), "components", json.Delim('{'), "schemas", json.Delim('{')} {
		got, err := d.Token()
		if err != nil {
			return nil, err
		}
		if got != want {
			return nil, fmt.Errorf("%v where %v is expected", got, want)
		}
	}
	schemas := map[string]*spec.Schema{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		s := new(spec.Schema)
		if err := d.Decode(s); err != nil {
			return nil, fmt.Errorf("%v: %w", name, err)
		}
		schemas[name.(string)] = s
	}
	return schemas, nil
}
