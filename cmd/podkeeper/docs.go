//go:build docs

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// forBuilders are commands that make and packages need, in a build of their own: what writes man pages takes half a MiB of
// memory wherever it is linked in.
func forBuilders() []*cobra.Command {
	return []*cobra.Command{{
		Use: "docs DIR", Short: "Write man pages and shell completions into DIR", Args: cobra.ExactArgs(1), Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error { return writeDocs(cmd.Root(), args[0]) },
	}}
}

// writeDocs writes man/*.1 and, under the names that shells look for, completions/*.
func writeDocs(root *cobra.Command, dir string) error {
	root.DisableAutoGenTag = true
	for _, cmd := range append(root.Commands(), root) {
		// What --help indents by two spaces stays as it is in a man page when indented by four.
		cmd.Long = strings.ReplaceAll(cmd.Long, "\n  ", "\n    ")
	}
	man, completions := filepath.Join(dir, "man"), filepath.Join(dir, "completions")
	for _, folder := range []string{man, completions} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	header := &doc.GenManHeader{Section: "1", Source: "podkeeper " + versionString(), Manual: "podkeeper"}
	if err := doc.GenManTree(root, header, man); err != nil {
		return fmt.Errorf("write man pages: %w", err)
	}
	for name, write := range map[string]func(file string) error{
		"podkeeper":      func(file string) error { return root.GenBashCompletionFileV2(file, true) },
		"_podkeeper":     root.GenZshCompletionFile,
		"podkeeper.fish": func(file string) error { return root.GenFishCompletionFile(file, true) },
	} {
		if err := write(filepath.Join(completions, name)); err != nil {
			return fmt.Errorf("write completion %s: %w", name, err)
		}
	}
	return nil
}
