package runtime

import (
	"encoding/binary"
	"hash/crc32"

	"golang.org/x/sys/unix"
)

// moveAttribute is the extended attribute of a container's pipe that holds the move under way. It goes with the pipe, and no
// container sees either.
const moveAttribute = "trusted.podkeeper.move"

// move is what an agent is about to do with the head of a pipe: to write it to a log file as lines, and then to take it out. It is
// kept beside the pipe until both are done, for an agent that is killed between them would else write the same once more.
type move struct {
	Inode  uint64 // of the log file
	Offset int64  // in it, of the lines, in bytes
	Length int64  // of the lines there, in bytes
	Taken  int64  // bytes of the pipe that they are
	Sum    uint32 // of those
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sumOf(text []byte) uint32 { return crc32.Checksum(text, castagnoli) }

// keep has a move be found by the next agent. Where the file system has no such attributes, lines may be there twice.
func (m move) keep(pipe int) {
	if encoded, err := binary.Append(nil, binary.LittleEndian, m); err == nil {
		_ = unix.Fsetxattr(pipe, moveAttribute, encoded, 0)
	}
}

// forgetMove is called when a move is done.
func forgetMove(pipe int) { _ = unix.Fremovexattr(pipe, moveAttribute) }

// keptMove is the move that an agent was killed in.
func keptMove(pipe int) (m move, found bool) {
	encoded := make([]byte, binary.Size(m))
	n, err := unix.Fgetxattr(pipe, moveAttribute, encoded)
	if err != nil || n != len(encoded) {
		return m, false
	}
	_, err = binary.Decode(encoded, binary.LittleEndian, &m)
	return m, err == nil
}

// endMove ends a move that an agent was killed in. Lines that are in the file in part go out of it: all of them are in the pipe
// yet. Those that are there whole go out of the pipe, unless they are no more at its head.
func (s *logStream) endMove(pipe int) {
	m, found := keptMove(pipe)
	if !found {
		return
	}
	switch at := s.out.size - m.Offset; {
	case m.Inode != s.out.inode:
	case at > 0 && at < m.Length:
		s.out.cut(m.Offset)
	case at == m.Length:
		buffer := <-s.scratch
		seen, err := buffer.peek(pipe)
		if err == nil && int64(len(seen)) >= m.Taken && sumOf(seen[:m.Taken]) == m.Sum {
			_ = buffer.drop(pipe, int(m.Taken))
		}
		s.scratch <- buffer
	}
	forgetMove(pipe)
}
