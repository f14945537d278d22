package main

import (
	"bytes"
	"fmt"
	"io"
)

// relay copies the command's output to w until the agent's marker, NUL TOKEN and a space, and returns the line behind
// it.
func relay(w io.Writer, r io.Reader, token string) (string, error) {
	marker := []byte("\x00" + token + " ")
	var held []byte // seen, but perhaps the marker's beginning
	chunk := make([]byte, 64<<10)
	for {
		n, readErr := r.Read(chunk)
		held = append(held, chunk[:n]...)
		output, verdict, found := bytes.Cut(held, marker)
		if !found && readErr == nil {
			output = held[:len(held)-overlap(held, marker)]
		}
		if _, err := w.Write(output); err != nil {
			return "", fmt.Errorf("write output: %w", err)
		}
		if found {
			line, err := readLine(io.MultiReader(bytes.NewReader(verdict), r))
			if err == nil {
				return line, nil
			}
			readErr = err
		}
		if readErr != nil {
			return "", fmt.Errorf("read output: %w: %w", errCut, readErr)
		}
		held = append(held[:0], held[len(output):]...)
	}
}

// overlap is how many bytes at the end of b may be the marker's beginning.
func overlap(b, marker []byte) int {
	for n := min(len(b), len(marker)-1); n > 0; n-- {
		if bytes.HasSuffix(b, marker[:n]) {
			return n
		}
	}
	return 0
}
