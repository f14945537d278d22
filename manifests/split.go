package manifests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxBytes is the size up to which a manifest file is read; the kubelet's limit for static Pods.
const maxBytes = 10 << 20

// document is one YAML document of a file, and what came of it.
type document struct {
	text    []byte
	line    int // where text starts in its file, 1-based
	objects []Object
	refused []Refusal
}

// decode reads each document of a file by itself, so that a broken one does not harm the others.
// It answers at least one document, if only one that carries the refusal of the whole file. kept is as in DecodeKept.
func decode(file string, data []byte, kept bool) []document {
	if reason := unreadable(data); reason != "" {
		return refuseFile(file, reason)
	}
	docs := split(data)
	if len(docs) == 0 {
		return refuseFile(file, "empty: a manifest starts with apiVersion: v1 and kind: Pod (to stop its Pods, remove the file)")
	}
	for i := range docs {
		docs[i].decode(file, kept)
	}
	return docs
}

func refuseFile(file, reason string) []document {
	return []document{{refused: []Refusal{{File: file, Reason: reason}}}}
}

// unreadable tells why data cannot be a manifest at all, or "".
func unreadable(data []byte) string {
	switch {
	case len(data) > maxBytes:
		return fmt.Sprintf("too large: a manifest file has at most %d MiB", maxBytes>>20)
	case bytes.HasPrefix(data, []byte{0xff, 0xfe}), bytes.HasPrefix(data, []byte{0xfe, 0xff}):
		return "UTF-16 text: save it as UTF-8"
	case bytes.IndexByte(data, 0) >= 0, !utf8.Valid(data):
		return "not a text file: a manifest is YAML or JSON in UTF-8"
	}
	return ""
}

// split cuts a file at the lines that start with "---", as YAML does. Documents with nothing in them are left out.
func split(data []byte) []document {
	var docs []document
	start, startLine, line := 0, 1, 1
	cut := func(end int) {
		if text := data[start:end]; !blank(text) {
			docs = append(docs, document{text: text, line: startLine})
		}
		start, startLine = end, line
	}
	for at := 0; at < len(data); line++ {
		next := len(data)
		if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
			next = at + i + 1
		}
		if separator(data[at:next]) && at > 0 {
			cut(at)
		}
		at = next
	}
	cut(len(data))
	return docs
}

func separator(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte("---"))
	return ok && (len(rest) == 0 || bytes.ContainsRune([]byte(" \t\r\n"), rune(rest[0])))
}

// blank tells whether there are only comments, YAML directives and document markers.
func blank(text []byte) bool {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if rest, ok := bytes.CutPrefix(line, []byte("---")); ok && separator(line) {
			line = bytes.TrimSpace(rest)
		}
		if len(line) > 0 && line[0] != '#' && line[0] != '%' && !bytes.Equal(line, []byte("...")) {
			return false
		}
	}
	return true
}

// decode fills in the objects and refusals of a document.
func (d *document) decode(file string, kept bool) {
	roots, err := parse(d.text)
	if err != nil {
		line, reason := d.explain(err)
		d.refused = append(d.refused, Refusal{File: file, Line: line, Reason: reason})
	}
	for _, root := range roots {
		read := reader{file: file, offset: d.line - 1, doc: d, kept: kept, budget: maxNodes}
		read.object(root, nil, "")
	}
}

// parse reads the YAML node trees of a document: one, or more where "..." lines end documents too.
func parse(text []byte) ([]*yaml.Node, error) {
	if json.Valid(text) {
		text = yamlEscapes(text)
	}
	var roots []*yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var node yaml.Node
		err := decoder.Decode(&node)
		if errors.Is(err, io.EOF) {
			return roots, nil
		}
		if err != nil {
			return roots, err
		}
		if node.Kind == yaml.DocumentNode && len(node.Content) > 0 {
			roots = append(roots, node.Content[0])
		}
	}
}

var jsonEscapes = regexp.MustCompile(`\\(u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|.)`)

// yamlEscapes rewrites the two escapes of JSON that the YAML parser does not know, \/ and \ud83d\ude00; all else of
// JSON is YAML as it is.
func yamlEscapes(text []byte) []byte {
	return jsonEscapes.ReplaceAllFunc(text, func(escape []byte) []byte {
		if string(escape) == `\/` {
			return []byte("/")
		}
		var char string
		if len(escape) != 12 || json.Unmarshal([]byte(`"`+string(escape)+`"`), &char) != nil {
			return escape
		}
		r, _ := utf8.DecodeRuneInString(char)
		return fmt.Appendf(nil, `\U%08X`, r)
	})
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// explain puts a YAML parser's complaint into its place in the file and, for the commonest mistake, into plain words.
func (d *document) explain(err error) (line int, reason string) {
	text := err.Error()
	if found := yamlLine.FindStringSubmatch(text); found != nil {
		text = text[len(found[0]):]
		// The pattern admits digits only; a number too long for an int has no line to point at.
		if n, err := strconv.Atoi(found[1]); err == nil {
			line = n
		}
	}
	if strings.HasPrefix(text, "unknown anchor ") { // what it quotes may be a password
		text = "a text that begins with * wants quotes"
	}
	if tab := d.tabbed(); tab > 0 {
		return tab + d.line - 1, "a tab indents this line: YAML wants spaces"
	}
	return max(d.breaks(), line, 1) + d.line - 1, "not YAML: " + text
}

// maxSearch is the size up to which the place of a fault is searched for.
const maxSearch = 1 << 20

// breaks finds the first line that the parser cannot get past. What it tells itself is often the line where the block
// around the fault starts.
func (d *document) breaks() int {
	if len(d.text) > maxSearch {
		return 0
	}
	lines := bytes.SplitAfter(d.text, []byte("\n"))
	fault := func(count int) string {
		if _, err := parse(bytes.Join(lines[:count], nil)); err != nil {
			return yamlLine.ReplaceAllString(err.Error(), "")
		}
		return ""
	}
	whole := fault(len(lines))
	return sort.Search(len(lines), func(count int) bool { return fault(count) == whole })
}

// tabbed is the first line of the document whose indentation has a tab, or 0.
func (d *document) tabbed() int {
	n := 0
	for line := range strings.Lines(string(d.text)) {
		n++
		content := strings.TrimLeft(line, " \t")
		if strings.Contains(line[:len(line)-len(content)], "\t") && strings.TrimSpace(content) != "" {
			return n
		}
	}
	return 0
}
