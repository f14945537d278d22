// Command licenses prints the licences of all that is linked into podkeeper: a list, then the text of each.
//
//	licenses [-o bin/licenses.txt] [PACKAGE...]
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	out := flag.String("o", "", "the file to write; the standard output where there is none")
	flag.Parse()
	packages := flag.Args()
	if len(packages) == 0 {
		packages = []string{"./cmd/..."}
	}
	if err := run(*out, packages); err != nil {
		fmt.Fprintln(os.Stderr, "licenses:", err)
		os.Exit(1)
	}
}

func run(out string, packages []string) error {
	modules, err := linked(packages)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := write(&text, modules); err != nil {
		return err
	}
	if out == "" {
		_, err = os.Stdout.Write(text.Bytes())
		return err
	}
	return os.WriteFile(out, text.Bytes(), 0o644)
}

// module is a module of which some package is linked.
type module struct {
	Path, Version, Dir string
	Main               bool
	Replace            *module
}

// linked are the modules of these packages and of all that they import, by their paths.
func linked(packages []string) ([]module, error) {
	cmd := exec.Command("go", append([]string{"list", "-deps", "-json=Module"}, packages...)...)
	cmd.Stderr = os.Stderr
	listed, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list packages: %w", err)
	}
	seen := map[string]module{}
	for d := json.NewDecoder(bytes.NewReader(listed)); ; {
		var p struct{ Module *module }
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("read list of packages: %w", err)
		}
		if m := p.Module; m != nil && !m.Main { // else it is Go's own
			seen[m.Path] = *m
		}
	}
	var all []module
	for _, m := range seen {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b module) int { return cmp.Compare(a.Path, b.Path) })
	return all, nil
}

// write writes the list and the texts. A module without a licence, or with one that is not known, is an error.
func write(w io.Writer, modules []module) error {
	var errs []error
	var texts strings.Builder
	for _, m := range modules {
		dir := m.Dir
		if m.Replace != nil {
			dir = m.Replace.Dir
		}
		files := licenseFiles(dir)
		if len(files) == 0 {
			errs = append(errs, fmt.Errorf("%s has no licence in %s", m.Path, dir))
		}
		var kinds []string
		for _, file := range files {
			text, err := os.ReadFile(file)
			kind := kindOf(string(text))
			if err != nil || kind == "" && !isNotice(file) {
				errs = append(errs, errors.Join(fmt.Errorf("%s: %s is no licence that is known", m.Path, file), err))
			}
			if kind != "" && !isNotice(file) && !slices.Contains(kinds, kind) {
				kinds = append(kinds, kind)
			}
			fmt.Fprintf(&texts, "\n%s\n%s, %s\n\n%s\n", strings.Repeat("=", 80), m.Path, filepath.Base(file), strings.TrimSpace(string(text)))
		}
		fmt.Fprintf(w, "%s %s: %s\n", m.Path, m.Version, strings.Join(kinds, ", "))
	}
	_, err := io.WriteString(w, texts.String())
	return errors.Join(append(errs, err)...)
}

// licenseFiles are those in the folder of a module, and notices, which some licences want to be passed on.
func licenseFiles(dir string) (files []string) {
	entries, _ := os.ReadDir(dir) // none is told of as such
	for _, e := range entries {
		name := strings.ToUpper(e.Name())
		if e.IsDir() || strings.HasSuffix(name, ".GO") || strings.HasSuffix(name, ".DOCS") { // of documents, which are not linked
			continue
		}
		if strings.HasPrefix(name, "LICENSE") || strings.HasPrefix(name, "LICENCE") || strings.HasPrefix(name, "COPYING") || isNotice(name) {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return files
}

func isNotice(file string) bool {
	return strings.HasPrefix(strings.ToUpper(filepath.Base(file)), "NOTICE")
}

// kindOf is the SPDX name of a licence that podkeeper, which is Apache-2.0, may be passed on with; empty where it is another one.
func kindOf(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	has := func(words string) bool { return strings.Contains(text, words) }
	switch {
	case has("GNU GENERAL PUBLIC LICENSE"), has("GNU AFFERO"), has("GNU LESSER"):
		return ""
	case has("Apache License") && has("Version 2.0"):
		return "Apache-2.0"
	case has("Mozilla Public License"):
		return "MPL-2.0"
	case has("Redistribution and use in source and binary forms") && (has("Neither the name") || has("names of its contributors")):
		return "BSD-3-Clause"
	case has("Redistribution and use in source and binary forms"):
		return "BSD-2-Clause"
	case has("Permission is hereby granted, free of charge"):
		return "MIT"
	case has("Permission to use, copy, modify, and/or distribute this software"), has("Permission to use, copy, modify, and distribute this software"):
		return "ISC"
	}
	return ""
}
