package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
)

// served are the resources and subresources of every group version that has a document.
func served() map[string][]string {
	return map[string][]string{
		"api/v1": {
			"configmaps", "endpoints", "events", "limitranges", "namespaces", "namespaces/finalize", "namespaces/status",
			"nodes", "nodes/status", "persistentvolumeclaims", "persistentvolumeclaims/status", "persistentvolumes",
			"persistentvolumes/status", "pods", "pods/attach", "pods/ephemeralcontainers", "pods/eviction", "pods/exec",
			"pods/log", "pods/portforward", "pods/resize", "pods/status", "resourcequotas", "resourcequotas/status",
			"secrets", "serviceaccounts", "serviceaccounts/token", "services", "services/status",
		},
		"apis/authentication.k8s.io/v1": {"selfsubjectreviews", "tokenreviews"},
		"apis/authorization.k8s.io/v1": {
			"localsubjectaccessreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews", "subjectaccessreviews",
		},
		"apis/coordination.k8s.io/v1":       {"leases"},
		"apis/discovery.k8s.io/v1":          {"endpointslices"},
		"apis/events.k8s.io/v1":             {"events"},
		"apis/node.k8s.io/v1":               {"runtimeclasses"},
		"apis/rbac.authorization.k8s.io/v1": {"clusterrolebindings", "clusterroles", "rolebindings", "roles"},
		"apis/scheduling.k8s.io/v1":         {"priorityclasses"},
	}
}

// definitions are JSON texts by name: paths by path, schemas by Kubernetes' name of the type.
type definitions map[string]json.RawMessage

// documents returns what is served of the specifications in the folder spec: by file name, without .gz.
func documents(spec string) (map[string][]byte, error) {
	docs := map[string][]byte{}
	for gv := range served() {
		name := strings.ReplaceAll(gv, "/", "__")
		doc, err := pruneV3(filepath.Join(spec, "v3", name+"_openapi.json"), gv)
		if err != nil {
			return nil, err
		}
		docs[name+".json"] = doc
	}
	doc, err := pruneV2(filepath.Join(spec, "swagger.json"))
	if err != nil {
		return nil, err
	}
	docs["v2.json"] = doc
	parsed, err := openapiv2.ParseDocument(doc)
	if err != nil {
		return nil, fmt.Errorf("parse pruned OpenAPI v2: %w", err)
	}
	docs["v2.pb"], err = proto.MarshalOptions{Deterministic: true}.Marshal(parsed)
	return docs, err
}

// pruneV3 is one group version of OpenAPI v3. The schemas come first: who wants only them need not read the rest.
func pruneV3(file, gv string) ([]byte, error) {
	var doc struct {
		Components struct {
			Schemas definitions `json:"schemas"`
		} `json:"components"`
		Info    json.RawMessage `json:"info"`
		OpenAPI string          `json:"openapi"`
		Paths   definitions     `json:"paths"`
	}
	err := read(file, &doc)
	if err != nil {
		return nil, err
	}
	if doc.Paths, err = pathsOf(doc.Paths, gv); err != nil {
		return nil, fmt.Errorf("prune %s: %w", file, err)
	}
	if doc.Components.Schemas, err = reachable(doc.Paths, doc.Components.Schemas); err != nil {
		return nil, fmt.Errorf("prune %s: %w", file, err)
	}
	return json.Marshal(doc)
}

// pruneV2 is OpenAPI v2, which has all group versions in one document.
func pruneV2(file string) ([]byte, error) {
	var doc struct {
		Swagger     string          `json:"swagger"`
		Info        json.RawMessage `json:"info"`
		Paths       definitions     `json:"paths"`
		Definitions definitions     `json:"definitions"`
		Parameters  definitions     `json:"parameters"`
	}
	err := read(file, &doc)
	if err != nil {
		return nil, err
	}
	paths := definitions{}
	for gv := range served() {
		some, err := pathsOf(doc.Paths, gv)
		if err != nil {
			return nil, fmt.Errorf("prune %s: %w", file, err)
		}
		maps.Copy(paths, some)
	}
	doc.Paths = paths
	all := maps.Clone(doc.Definitions)
	maps.Copy(all, doc.Parameters)
	wanted, err := reachable(paths, all)
	if err != nil {
		return nil, fmt.Errorf("prune %s: %w", file, err)
	}
	unwanted := func(name string, _ json.RawMessage) bool { return wanted[name] == nil }
	maps.DeleteFunc(doc.Definitions, unwanted)
	maps.DeleteFunc(doc.Parameters, unwanted)
	return json.Marshal(doc)
}

func read(file string, into any) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read specification: %w", err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("parse %s: %w", file, err)
	}
	return nil
}

// pathsOf are the paths of what is served of a group version; it is an error when one of its resources has none.
func pathsOf(all definitions, gv string) (definitions, error) {
	paths, without := definitions{}, served()[gv]
	for path, text := range all {
		resource := resourceOf(path, gv)
		if slices.Contains(served()[gv], resource) {
			paths[path] = text
			without = slices.DeleteFunc(without, func(r string) bool { return r == resource })
		}
	}
	if len(without) > 0 {
		return nil, fmt.Errorf("no path of %s has %v", gv, without)
	}
	return paths, nil
}

// resourceOf is "pods/log" for /api/v1/namespaces/{namespace}/pods/{name}/log.
func resourceOf(path, gv string) string {
	rest, ok := strings.CutPrefix(path, "/"+gv+"/")
	if !ok {
		return ""
	}
	rest = strings.TrimPrefix(rest, "namespaces/{namespace}/")
	resource, rest, _ := strings.Cut(rest, "/")
	_, subresource, _ := strings.Cut(rest, "/") // after the {name}
	return strings.TrimSuffix(resource+"/"+subresource, "/")
}

var reference = regexp.MustCompile(`"\$ref":\s*"#/[^"]*/([^"/]+)"`)

// reachable are those of all that texts refer to, and what these refer to.
func reachable(texts, all definitions) (definitions, error) {
	reached := definitions{}
	var visit func(texts definitions) error
	visit = func(texts definitions) error {
		for from, text := range texts {
			for _, m := range reference.FindAllSubmatch(text, -1) {
				name := string(m[1])
				if reached[name] != nil {
					continue
				}
				if all[name] == nil {
					return fmt.Errorf("%s refers to %s, which is not there", from, name)
				}
				reached[name] = all[name]
				if err := visit(definitions{name: all[name]}); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return reached, visit(texts)
}
