package server

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/printers"
)

// jsonPath is how the output format that is a template starts.
const jsonPath = "jsonpath="

// PrintPods prints the Pods of a namespace, or of all where it is empty, as `kubectl get pods` does: output is "" or
// "wide" (a table, with a NAMESPACE column where namespace is empty), "json", "yaml", "name" or "jsonpath=TEMPLATE".
// Instead of an empty table it says that nothing was found. Ages count to now.
func PrintPods(w io.Writer, list *v1.PodList, output, namespace string, now time.Time) error {
	pods := slices.Clone(list.Items)
	if namespace != "" {
		pods = slices.DeleteFunc(pods, func(p v1.Pod) bool { return p.Namespace != namespace })
	}
	var err error
	switch {
	case output != "" && output != "wide":
		err = printObjects(w, pods, output)
	case len(pods) == 0 && namespace == "":
		_, err = fmt.Fprintln(w, "No resources found")
	case len(pods) == 0:
		_, err = fmt.Fprintf(w, "No resources found in %s namespace.\n", namespace)
	default:
		options := printers.PrintOptions{Wide: output == "wide", WithNamespace: namespace == ""}
		err = printers.NewTablePrinter(options).PrintObj(table(pods, now), w)
	}
	if err != nil {
		return fmt.Errorf("print pods: %w", err)
	}
	return nil
}

// printObjects prints Pods for programs: as one List, or by name.
func printObjects(w io.Writer, pods []v1.Pod, output string) error {
	list, err := kubectlList(pods)
	if err != nil {
		return err
	}
	var p printers.ResourcePrinter
	switch template, isPath := strings.CutPrefix(output, jsonPath); {
	case isPath:
		jp, err := printers.NewJSONPathPrinter(template)
		if err != nil {
			return fmt.Errorf("read %s: %w", output, err)
		}
		jp.AllowMissingKeys(true) // as kubectl unless told otherwise
		p = jp
	case output == "json":
		p = &printers.JSONPrinter{}
	case output == "yaml":
		p = &printers.YAMLPrinter{}
	case output == "name":
		p = &printers.NamePrinter{}
	default:
		return fmt.Errorf("unknown output %q: it can be wide, json, yaml, name or jsonpath=TEMPLATE", output)
	}
	return p.PrintObj(list, w)
}

// kubectlList makes Pods the list that kubectl prints: kind List, each item with its own apiVersion and kind.
func kubectlList(pods []v1.Pod) (*unstructured.UnstructuredList, error) {
	list := &unstructured.UnstructuredList{Object: map[string]any{
		"apiVersion": "v1", "kind": "List",
		"metadata": map[string]any{"resourceVersion": ""},
	}}
	for _, pod := range pods {
		pod.SetGroupVersionKind(v1.SchemeGroupVersion.WithKind("Pod"))
		data, err := json.Marshal(&pod)
		if err != nil {
			return nil, fmt.Errorf("encode pod %s/%s: %w", pod.Namespace, pod.Name, err)
		}
		var item unstructured.Unstructured
		if err := item.UnmarshalJSON(data); err != nil {
			return nil, fmt.Errorf("decode pod %s/%s: %w", pod.Namespace, pod.Name, err)
		}
		list.Items = append(list.Items, item)
	}
	return list, nil
}

// PrintRefused prints, a line each, what a user has to mend: file, line and column, field, reason. It prints nothing
// where nothing is refused.
func PrintRefused(w io.Writer, m *Manifests) error {
	var b strings.Builder
	if m.Error != "" {
		fmt.Fprintf(&b, "%s: %s\n", m.Directory, m.Error)
	}
	for _, r := range m.Refused {
		b.WriteString(r.line())
		b.WriteByte('\n')
	}
	if b.Len() == 0 {
		return nil
	}
	if _, err := fmt.Fprintf(w, "\nTo be mended:\n%s", b.String()); err != nil {
		return fmt.Errorf("print refused manifests: %w", err)
	}
	return nil
}

// line is a fault in the form that editors can jump to.
func (r Refused) line() string {
	var b strings.Builder
	b.WriteString(r.File)
	if r.Line > 0 {
		fmt.Fprintf(&b, ":%d", r.Line)
		if r.Column > 0 {
			fmt.Fprintf(&b, ":%d", r.Column)
		}
	}
	if r.Field != "" {
		b.WriteString(": " + r.Field)
	}
	b.WriteString(": " + r.Reason)
	if r.Kept {
		what := "it"
		if r.Name != "" {
			what = r.Namespace + "/" + r.Name
		}
		b.WriteString(" (the last good version of " + what + " stays)")
	}
	return b.String()
}
