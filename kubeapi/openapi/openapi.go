// Package openapi has what Kubernetes publishes of its API in OpenAPI, for the resources that podkeeper-api serves:
// kubectl explains and checks manifests by it, and server-side apply merges by its schemas. What is served stands in
// generate/prune.go alone; `go generate` makes the documents anew, from the module k8s.io/kubernetes.
//
// They stay compressed in the binary, and are handed out as they are. It knows no objects, and not who asks.
package openapi

import (
	"bytes"
	"compress/gzip"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

//go:generate go run ./generate published

//go:embed published
var published embed.FS

// packed is a compressed document: "v2.pb", or a group version's, "api__v1.json".
func packed(name string) ([]byte, error) {
	return published.ReadFile(path.Join("published", name+".gz"))
}

// unpack reads a compressed document.
func unpack(packed []byte) (io.Reader, error) {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("decompress document: %w", err)
	}
	return r, nil
}

// groupVersions are those that have a document, as OpenAPI v3 names them: "api/v1", "apis/node.k8s.io/v1".
func groupVersions() []string {
	names, err := fs.Glob(published, "published/api*.json.gz")
	if err != nil {
		panic(err) // the pattern is wrong
	}
	for i, name := range names {
		names[i] = strings.ReplaceAll(strings.TrimSuffix(path.Base(name), ".json.gz"), "__", "/")
	}
	return names
}

// fileOf is the name of a group version's document.
func fileOf(groupVersion string) string {
	return strings.ReplaceAll(groupVersion, "/", "__") + ".json"
}
