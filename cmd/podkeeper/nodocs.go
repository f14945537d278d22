//go:build !docs

package main

import "github.com/spf13/cobra"

// forBuilders are commands that only a build with the tag docs has.
func forBuilders() []*cobra.Command { return nil }
