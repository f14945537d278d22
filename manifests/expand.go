package manifests

import (
	"fmt"

	"k8s.io/kubernetes/pkg/kubelet/util/env"
	"k8s.io/kubernetes/third_party/forked/golang/expansion"
)

// Expand replaces $(VAR) in a command, an argument, a value or a subPathExpr by what lookup knows, as Kubernetes does:
// an unknown $(VAR) stays as written, $$(VAR) is a $(VAR) that is left alone, and $VAR is none of ours.
func Expand(s string, lookup func(name string) (string, bool)) string {
	return expansion.Expand(s, func(name string) string {
		if value, ok := lookup(name); ok {
			return value
		}
		return "$(" + name + ")"
	})
}

// EnvValue is what a file of the kubelet's format for fileKeyRef, lines such as NAME='value', gives a variable; "" where it
// gives none. The error says which line is wrong.
func EnvValue(file, name string) (string, error) {
	value, err := env.ParseEnv(file, name)
	if err != nil {
		return "", fmt.Errorf("read variable %s: %w", name, err)
	}
	return value, nil
}
