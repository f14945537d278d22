package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// consoleTail is how many of the console's last lines are worth showing.
const consoleTail = 30

// A console keeps the last lines of the guest's kernel console, and watches them for a panic.
type console struct {
	onPanic func(line string)
	lines   []string // to be read after listen has returned
}

func (c *console) listen(r io.ReadCloser) {
	defer r.Close()
	scanner := bufio.NewScanner(r)
	for scanner.Scan() {
		line := strings.TrimRight(scanner.Text(), "\r")
		c.lines = append(c.lines, line)
		c.lines = c.lines[max(0, len(c.lines)-consoleTail):]
		if _, what, ok := strings.Cut(line, "Kernel panic - not syncing: "); ok {
			c.onPanic(what)
		}
	}
	// An over-long line ends the scan, which would make the guest wait for us for ever.
	_, _ = io.Copy(io.Discard, r)
}

// show prints the last lines, for whoever has to find out what went wrong.
func (c *console) show(w io.Writer) {
	for _, line := range c.lines {
		fmt.Fprintln(w, "vm: console:", line)
	}
}
