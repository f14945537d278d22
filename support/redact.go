package support

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	yamlutil "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// LeftOut stands in place of what is left out.
const LeftOut = "(left out)"

// Redactor leaves secrets out, in two ways: by where they stand, such as the value of an environment variable or a Secret,
// and by what they are, wherever they stand. The second is for what a log quotes; it knows what it was told of by Learn.
type Redactor struct {
	Output bool // what containers have written may stay

	values   map[string]bool
	replacer *strings.Replacer
}

// What is too short to be looked for everywhere, in bytes: it would be found in words that tell nothing.
const (
	shortSecret   = 5
	shortVariable = 7
)

// Learn reads the secrets of manifests, in YAML or JSON: of Secrets, of environment variables, of kubeconfigs and of
// credentials for registries. What it cannot read it knows nothing of. It must not be called beside Clean.
func (r *Redactor) Learn(content []byte) {
	docs := yamlutil.NewYAMLReader(newLines(content))
	for {
		doc, err := docs.Read()
		if err != nil {
			break
		}
		var v any
		if yaml.Unmarshal(doc, &v) == nil {
			r.learn(v)
		}
	}
	r.replacer = nil
}

// LearnAll reads a file, in YAML or JSON, every value of which is a secret.
func (r *Redactor) LearnAll(content []byte) {
	var v any
	if yaml.Unmarshal(content, &v) == nil {
		r.learnLeaves(v)
	}
	r.replacer = nil
}

func (r *Redactor) learn(v any) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			r.learn(item)
		}
	case map[string]any:
		switch v["kind"] {
		case "Secret":
			r.learnLeaves(v["data"])
			r.learnLeaves(v["stringData"])
			return
		case "Config":
			r.learnLeaves(v["users"])
			return
		}
		for key, item := range v {
			for _, value := range variables(key, item) {
				r.know(value, shortVariable)
			}
			r.learn(item)
		}
	}
}

// learnLeaves knows every text in it, and what that says in base64.
func (r *Redactor) learnLeaves(v any) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			r.learnLeaves(item)
		}
	case map[string]any:
		for _, item := range v {
			r.learnLeaves(item)
		}
	case string:
		r.know(v, shortSecret)
		decoded, err := base64.StdEncoding.DecodeString(v)
		if err != nil || len(decoded) == 0 {
			decoded = []byte(v)
		} else {
			r.know(string(decoded), shortSecret)
			if _, password, ok := strings.Cut(string(decoded), ":"); ok { // of a registry
				r.know(password, shortSecret)
			}
		}
		var inner map[string]any
		if json.Unmarshal(decoded, &inner) == nil {
			r.learnLeaves(inner)
		}
	}
}

// know has a value, and each line of it, be left out in the forms that it may be written in.
func (r *Redactor) know(value string, short int) {
	if r.values == nil {
		r.values = map[string]bool{}
	}
	for line := range strings.Lines(value) {
		line = strings.TrimSpace(line)
		if len(line) <= short || strings.HasPrefix(line, "-----") { // as of PEM
			continue
		}
		encoded, _ := json.Marshal(line)
		quoted := strconv.Quote(line)
		for _, form := range []string{
			line, string(encoded[1 : len(encoded)-1]), quoted[1 : len(quoted)-1], base64.StdEncoding.EncodeToString([]byte(line)),
			url.QueryEscape(line), url.PathEscape(line),
		} {
			r.values[form] = true
		}
	}
	if whole := strings.TrimSpace(value); len(whole) > short {
		r.values[base64.StdEncoding.EncodeToString([]byte(value))] = true
		r.values[base64.StdEncoding.EncodeToString([]byte(whole))] = true
	}
}

// Clean is the content of a file without secrets. Of JSON that cannot be read nothing is left.
func (r *Redactor) Clean(name string, content []byte) ([]byte, error) {
	if r.replacer == nil {
		r.prepare()
	}
	if !strings.HasSuffix(name, ".json") {
		return []byte(r.text(string(content))), nil
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		return nil, fmt.Errorf("read JSON of %d bytes: %w", len(content), err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read JSON of %d bytes: more follows", len(content))
	}
	clean, err := encode(r.value("", v), "  ")
	return []byte(r.replacer.Replace(clean)), err
}

func encode(v any, indent string) (string, error) {
	var out strings.Builder
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", indent)
	if err := encoder.Encode(v); err != nil {
		return "", fmt.Errorf("write JSON: %w", err)
	}
	return out.String(), nil
}

// prepare has the longest values looked for first: one may be a part of another.
func (r *Redactor) prepare() {
	var values []string
	for v := range r.values {
		values = append(values, v)
	}
	slices.SortFunc(values, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, v := range values {
		pairs = append(pairs, v, LeftOut)
	}
	r.replacer = strings.NewReplacer(pairs...)
}

// secretKey is the name of a field, a label, an annotation or an option that holds a secret, where that is a text.
var secretKey = regexp.MustCompile(`(?i)(password|passwd|passphrase|secret|token|credentials?|authorization|auth|bearer|(private|api|access|signing)[-_.]?key|key[-_]data)$`)

// value leaves out what stands where secrets do.
func (r *Redactor) value(key string, v any) any {
	switch v := v.(type) {
	case string:
		if secretKey.MatchString(key) && v != "" {
			return LeftOut
		}
		return r.leaf(v)
	case []any:
		for i, item := range v {
			v[i] = r.value("", item)
		}
		if isVariables(key) {
			redactVariables(v)
		}
	case map[string]any:
		return r.object(v)
	}
	return v
}

func (r *Redactor) object(v map[string]any) any {
	switch v["kind"] {
	case "Secret":
		return map[string]any{"kind": "Secret", "metadata": nameOf(v), "data": LeftOut}
	case "ConfigMap": // what stands in volumes is left out
		return map[string]any{"kind": "ConfigMap", "metadata": nameOf(v), "data": LeftOut}
	}
	_, ended := v["exitCode"]
	for key, item := range v {
		v[key] = r.value(key, item)
	}
	// What a container says at its end is what it wrote, or its log; why it could not be started is the agent's to say.
	if text, is := v["message"].(string); is && ended && !r.Output && v["reason"] != "StartError" {
		v["message"] = fmt.Sprintf("%s: %d bytes", LeftOut, len(text))
	}
	return v
}

func nameOf(object map[string]any) map[string]any {
	metadata, _ := object["metadata"].(map[string]any)
	return map[string]any{"namespace": metadata["namespace"], "name": metadata["name"]}
}

// leaf is a text in JSON, which may be JSON itself, as annotations are.
func (r *Redactor) leaf(s string) string {
	if trimmed := strings.TrimSpace(s); strings.HasPrefix(trimmed, "{") || strings.HasPrefix(trimmed, "[") {
		decoder := json.NewDecoder(strings.NewReader(trimmed))
		decoder.UseNumber()
		var inner any
		if decoder.Decode(&inner) == nil && !decoder.More() {
			if text, err := encode(r.value("", inner), ""); err == nil {
				return strings.TrimSuffix(text, "\n")
			}
		}
	}
	return r.text(s)
}

// isVariables says whether a field is a list of names with values that are left out.
func isVariables(key string) bool {
	switch strings.ToLower(key) {
	case "env", "envs", "httpheaders":
		return true
	}
	return false
}

// variables are the values of such a list.
func variables(key string, v any) []string {
	list, is := v.([]any)
	if !is || !isVariables(key) {
		return nil
	}
	var out []string
	for _, item := range list {
		switch item := item.(type) {
		case string:
			_, value, _ := strings.Cut(item, "=")
			out = append(out, value)
		case map[string]any:
			if value, is := item["value"].(string); is {
				out = append(out, value)
			}
		}
	}
	return out
}

func redactVariables(list []any) {
	for i, item := range list {
		switch item := item.(type) {
		case string:
			name, _, _ := strings.Cut(item, "=")
			list[i] = name + "=" + LeftOut
		case map[string]any:
			if value, is := item["value"]; is && value != "" {
				item["value"] = LeftOut
			}
		}
	}
}

// patterns are secrets that are known by their form, and by what stands before them, which stays. one of hints is in every line that
// has one, in lower case: a line is searched in full only where it has that.
var patterns = []struct {
	hints []string
	find  *regexp.Regexp
	put   string
}{
	{[]string{"eyj"}, regexp.MustCompile(`\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*`), LeftOut}, // a JSON web token
	{[]string{"://"}, regexp.MustCompile(`(://)[^\s/@"']+@`), "$1" + LeftOut + "@"},     // user and password of an address
	{[]string{"bearer", "basic"}, regexp.MustCompile(`(?i)\b(bearer|basic)(\s+)[\w+/=.~-]{6,}`), "$1$2" + LeftOut},
	{words, regexp.MustCompile(`(?i)((?:pass(?:word|wd|phrase)|secret|token|credentials?|(?:private|api|access|signing)[-_.]?key)[\\"']*\s*[=:]\s*[\\"']*)[^\s"',;\\]+`), "$1" + LeftOut},
	{words, regexp.MustCompile(`(?i)((?:pass(?:word|wd|phrase)|secret|token|api[-_]?key)\s+)\S*\d\S*`), "$1" + LeftOut}, // --password x7
}

var words = []string{"pass", "secret", "token", "credential", "key"}

// privateKey is one in PEM, which may be cut off.
var privateKey = regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)`)

// text leaves secrets out of a text.
func (r *Redactor) text(s string) string {
	if r.replacer == nil {
		r.prepare()
	}
	if strings.Contains(s, "PRIVATE KEY-----") {
		s = privateKey.ReplaceAllString(s, LeftOut)
	}
	var out strings.Builder
	for line := range strings.Lines(s) {
		lower := strings.ToLower(line)
		for _, p := range patterns {
			if slices.ContainsFunc(p.hints, func(hint string) bool { return strings.Contains(lower, hint) }) {
				line = p.find.ReplaceAllString(line, p.put)
			}
		}
		out.WriteString(line)
	}
	return r.replacer.Replace(out.String())
}
