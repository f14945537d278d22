package manifests

import "k8s.io/kubernetes/third_party/forked/golang/expansion"

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
