// Command generate prunes Kubernetes' published OpenAPI documents to the resources that podkeeper serves, and puts
// them, compressed, into the folder that is its argument. It takes them from the module k8s.io/kubernetes, of the
// version that go.mod names, and knows no other source.
package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: generate FOLDER")
	}
	if err := generate(os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

// generate replaces what is in the folder.
func generate(folder string) error {
	spec, err := specification()
	if err != nil {
		return err
	}
	docs, err := documents(spec)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(folder); err != nil {
		return fmt.Errorf("remove old documents: %w", err)
	}
	if err := os.Mkdir(folder, 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	for name, doc := range docs {
		packed, err := pack(doc)
		if err != nil {
			return fmt.Errorf("compress %s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(folder, name+".gz"), packed, 0o644); err != nil {
			return fmt.Errorf("write document: %w", err)
		}
	}
	return nil
}

// specification is the folder of Kubernetes' specifications in the module's sources.
func specification() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes").Output()
	if err != nil {
		return "", fmt.Errorf("find module k8s.io/kubernetes: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "api", "openapi-spec"), nil
}

func pack(text []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	err = w.Close()
	return b.Bytes(), err
}
