package runtime

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"time"
)

// The format of log files is CRI's, `RFC3339Nano stdout|stderr F|P text`: this file writes it and reads it.

// maxLogLine is how many bytes of text an entry has at most: a longer line is written in pieces, as CRI runtimes do.
const maxLogLine = 16 << 10

// entry is one line of a log file.
type entry struct {
	text    []byte
	partial bool // the line goes on in the next entry
}

// appendEntries writes entries of one stream behind what is in a buffer.
func appendEntries(buffer []byte, now time.Time, stream string, entries []entry) []byte {
	for _, e := range entries {
		buffer = now.AppendFormat(buffer, time.RFC3339Nano)
		buffer = append(buffer, ' ')
		buffer = append(buffer, stream...)
		if e.partial {
			buffer = append(buffer, " P "...)
		} else {
			buffer = append(buffer, " F "...)
		}
		buffer = append(buffer, e.text...)
		buffer = append(buffer, '\n')
	}
	return buffer
}

// splitLines cuts what was seen into entries and says how many bytes they are. An unfinished line is left for later
// unless it is long, or final says that nothing will come after it.
func splitLines(seen []byte, final bool) ([]entry, int) {
	var entries []entry
	taken := 0
	for rest := seen; len(rest) > 0; rest = seen[taken:] {
		end := bytes.IndexByte(rest, '\n')
		switch {
		case end >= 0 && end <= maxLogLine:
			entries = append(entries, entry{text: rest[:end]})
			taken += end + 1
		case len(rest) > maxLogLine:
			entries = append(entries, entry{text: rest[:maxLogLine], partial: true})
			taken += maxLogLine
		case final:
			entries = append(entries, entry{text: rest})
			taken += len(rest)
		default:
			return entries, taken
		}
	}
	return entries, taken
}

// entryFields takes a line of a log file apart. It is not ok where it is not in the format.
func entryFields(line []byte) (stamp, stream, tag, text []byte, ok bool) {
	stamp, rest, _ := bytes.Cut(line, []byte(" "))
	stream, rest, _ = bytes.Cut(rest, []byte(" "))
	tag, text, ok = bytes.Cut(rest, []byte(" "))
	return stamp, stream, tag, text, ok
}

// isPartial says whether the tag of an entry is that the line goes on in the next one.
func isPartial(tag []byte) bool { return len(tag) > 0 && tag[0] == 'P' }

// tailPiece is how much of a log is looked at once, from its end.
const tailPiece = 16 << 10

// LastLines answers the text of the last lines of a log file, without times and streams, and of that no more than its last
// limit bytes. A line that was written in pieces is put together again; each piece counts as a line. What is not in the
// format is left out.
func LastLines(file string, lines, limit int) (string, error) {
	f, err := openLog(file, os.O_RDONLY)
	if err != nil {
		return "", fmt.Errorf("read log: %w", err)
	}
	defer f.Close()
	_, at, err := lastLines(f, int64(lines))
	if err != nil {
		return "", fmt.Errorf("read log: %w", err)
	}
	content, err := io.ReadAll(io.NewSectionReader(f, at, size(f)-at))
	if err != nil {
		return "", fmt.Errorf("read log: %w", err)
	}
	text := tail(content, lines)
	return string(text[max(0, len(text)-limit):]), nil
}

// tail is the text of the last of these entries.
func tail(content []byte, lines int) (text []byte) {
	if len(content) == 0 {
		return nil
	}
	all := bytes.Split(bytes.TrimSuffix(content, []byte("\n")), []byte("\n"))
	for _, line := range all[max(0, len(all)-lines):] {
		_, _, tag, entry, ok := entryFields(line)
		if !ok {
			continue
		}
		text = append(text, entry...)
		if !isPartial(tag) {
			text = append(text, '\n')
		}
	}
	return text
}
