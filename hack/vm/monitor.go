package main

import (
	"encoding/json"
	"fmt"
	"net"
	"sync"
)

// A monitor speaks qemu's machine protocol (QMP). One command at a time.
type monitor struct {
	conn    net.Conn
	answers chan message
	resumed chan struct{} // closed when a saved state has been loaded and the guest goes on
	reason  string        // why the guest ended by itself, else empty; to be read after listen has returned
}

type message struct {
	Return json.RawMessage
	Error  *struct{ Desc string }
	Event  string
	Data   struct{ Reason string }
}

func newMonitor(conn net.Conn) *monitor {
	return &monitor{conn: conn, answers: make(chan message, 1), resumed: make(chan struct{})}
}

// listen reads answers and events until the machine ends.
func (m *monitor) listen() {
	defer close(m.answers)
	defer func() { _ = m.conn.Close() }() // nobody is at the other end
	decoder := json.NewDecoder(m.conn)
	var once sync.Once
	for {
		var got message
		if decoder.Decode(&got) != nil {
			return // the socket ends with the machine
		}
		switch {
		case got.Event == "RESUME":
			once.Do(func() { close(m.resumed) })
		case got.Event == "SHUTDOWN":
			m.reason = got.Data.Reason
		case got.Return != nil || got.Error != nil:
			m.answers <- got
		}
	}
}

// do runs a command; result may be nil. It fails when the machine ends.
func (m *monitor) do(command string, arguments map[string]any, result any) error {
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := json.NewEncoder(m.conn).Encode(request); err != nil {
		return fmt.Errorf("ask qemu for %s: %w: %w", command, errCut, err)
	}
	answer, ok := <-m.answers
	switch {
	case !ok:
		return fmt.Errorf("ask qemu for %s: %w", command, errCut)
	case answer.Error != nil:
		return fmt.Errorf("ask qemu for %s: %s", command, answer.Error.Desc)
	case result == nil:
		return nil
	}
	if err := json.Unmarshal(answer.Return, result); err != nil {
		return fmt.Errorf("read qemu's answer to %s: %w", command, err)
	}
	return nil
}
