package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// String prints what was seen for people and logs, in one line: "sandbox running/0, app running/2 started, init exited/0 0". After
// a slash stands the attempt; what is as it mostly is, is left out.
func (s Seen) String() string {
	var sandbox, whole facts
	sandbox.say(s.Sandbox.Busy, "busy")
	sandbox.say(s.Sandbox.State == Running && !s.Sandbox.Attached, "without network")
	sandbox.say(s.Sandbox.Attaching, "attaching")
	sandbox.until("retry", s.Sandbox.RetryAt)
	parts := []string{"sandbox " + s.Sandbox.State.orNone() + fmt.Sprintf("/%d", s.Sandbox.Attempt) + sandbox.String()}
	for _, name := range slices.Sorted(maps.Keys(s.Containers)) {
		parts = append(parts, name+" "+s.Containers[name].String())
	}
	if s.Ending != nil {
		whole.say(true, "ending since "+stamp(s.Ending.Since)+" ("+s.Ending.Reason+")")
	}
	whole.say(s.Restarting, "restarting")
	if text := strings.TrimSpace(whole.String()); text != "" {
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

// String prints what was seen of a container, likewise.
func (c Container) String() string {
	var f facts
	f.say(c.State == Exited, fmt.Sprint(c.ExitCode))
	f.say(c.State == Running && c.Started, "started")
	f.say(c.Stop != nil, "stop "+c.stop())
	f.say(c.Failed != "", "failed: "+string(c.Failed))
	for _, fact := range []struct {
		is   bool
		text string
	}{
		{c.Redo, "redo"}, {c.Changed, "changed"}, {c.Resized, "resized"}, {c.Unhooked, "unhooked"}, {c.PreStop != nil, "preStop begun"}, {c.PreStopDue, "preStop due"},
		{c.Hooking, "hooking"}, {c.Lost, "lost"}, {c.Busy, "busy"}, {c.Leftover, "leftover"}, {c.Prepared, "prepared"}, {c.Created, "created"}, {c.Tidying, "tidying"},
	} {
		f.say(fact.is, fact.text)
	}
	f.say(c.State == Exited && c.Backoff > 0, "back-off "+c.Backoff.String()+" from "+stamp(c.FinishedAt))
	f.until("retry", c.RetryAt)
	return fmt.Sprintf("%s/%d", c.State.orNone(), c.Attempt) + f.String()
}

func (c Container) stop() string {
	if c.Stop == nil {
		return ""
	}
	return fmt.Sprintf("since %s within %s (%s)", stamp(c.Stop.Since), c.Stop.Grace, c.Stop.Why)
}

func (s State) orNone() string {
	if s == None {
		return "none"
	}
	return string(s)
}

// String prints the actions of a plan, and when to look again: "stop web (liveness failed); again 12:00:05".
func (p Plan) String() string {
	var parts []string
	for _, a := range p.Actions {
		parts = append(parts, a.String())
	}
	text := strings.Join(parts, ", ")
	if text == "" {
		text = "nothing"
	}
	if !p.Wake.IsZero() {
		text += "; again " + stamp(p.Wake)
	}
	return text
}

func stamp(t time.Time) string { return t.Format("15:04:05.000") }

// facts are what is to be said of something.
type facts []string

func (f *facts) say(is bool, text string) {
	if is {
		*f = append(*f, text)
	}
}

func (f *facts) until(what string, at time.Time) { f.say(!at.IsZero(), what+" "+stamp(at)) }

// String is what is to be said, after a space.
func (f facts) String() string {
	if len(f) == 0 {
		return ""
	}
	return " " + strings.Join(f, " ")
}
