package main

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// terminal writes text for people. What comes from manifests, containers and names of files may hold what a terminal obeys: it
// is shown as \x1b and the like. What programs read, and logs, do not go this way.
type terminal struct{ io.Writer }

// Write writes text whose last character is whole.
func (t terminal) Write(text []byte) (int, error) {
	if _, err := io.WriteString(t.Writer, shown(string(text))); err != nil {
		return 0, err
	}
	return len(text), nil
}

// shown is text in which nothing but line ends and tabs moves the cursor, turns the direction of writing, or is no text.
func shown(text string) string {
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == '\n' || r == '\t':
			b.WriteRune(r)
		case r == utf8.RuneError && strings.HasPrefix(text[i:], string(utf8.RuneError)):
			b.WriteRune(r)
		case r == utf8.RuneError || r < utf8.RuneSelf && unicode.IsControl(r):
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
