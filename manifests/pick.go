package manifests

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// presence is how much is known of a manifest file, and so what speaks for it.
type presence string

const (
	unread  presence = "unread"  // it was not read yet: all that is known is what was good last
	present presence = "present" // it is there, and what stands in it is known
	missing presence = "missing" // it is not there at the moment: any other that has its objects takes them over
	gone    presence = "gone"    // it does not come back: what it held is only of use to a file that it was moved to
)

// entry is one manifest file: what stands in it now, and what was good last.
type entry struct {
	path     string
	presence presence
	docs     []document // what stands in the file, or stood when it was read last; none before
	good     []document // those documents, of now or earlier, that objects were taken from
	twin     string     // the path of an entry that is missing or gone and was this very file: it was renamed
}

// away tells whether the file is not there.
func (e *entry) away() bool { return e.presence == missing || e.presence == gone }

// standing is what a version of an object has to say for itself.
type standing string

const (
	current  standing = "current"   // it stands in the file, as far as is known
	standsIn standing = "stands in" // it was good last, and what the file holds now is not, or lacks it
	orphaned standing = "orphaned"  // its file is missing
)

// claim is one version of an object that could be the one that is wanted.
type claim struct {
	Object
	from     *entry
	doc      *document
	standing standing
	order    int
}

// picked is the outcome of pick: the wanted objects, the refusals and, for each file, the documents that objects came from.
type picked struct {
	objects []Object
	refused []Refusal
	good    map[*entry][]document
}

// picker decides which version of each object is wanted. What it does grows with the number of files and objects, and no
// faster.
type picker struct {
	running map[Key]Object
	away    map[string]*entry                 // the files that are not there, by path
	had     map[types.NamespacedName][]*entry // the same by the names of what was good in them
	claims  map[Key][]claim                   // every version of an object
	winners map[Key]claim                     // the one that is wanted
	won     map[*entry][]claim                // the winners of a file, as they stand in it
	uids    map[types.UID]Key                 // of Pods
	taken   map[*entry][]Refusal              // of names and UIDs that others have, and of edits that may not be
	refused []Refusal
	count   int
}

// pick settles what is wanted, given all files, sorted by path, and what was wanted before. Of one kind and name, the
// file that had it keeps it; a file's present content comes before its last good one, which stands in for documents
// that are refused. A name, or a Pod's UID, that is taken is refused to the second who wants it.
func pick(entries []*entry, running map[Key]Object) picked {
	p := &picker{
		running: running,
		away:    make(map[string]*entry),
		had:     make(map[types.NamespacedName][]*entry),
		claims:  make(map[Key][]claim),
		winners: make(map[Key]claim),
		won:     make(map[*entry][]claim),
		taken:   make(map[*entry][]Refusal),
		uids:    make(map[types.UID]Key),
	}
	for _, e := range entries {
		if e.away() {
			p.mourn(e)
		}
	}
	for _, e := range entries {
		p.claim(e)
	}
	for _, key := range p.keys() {
		p.settle(key)
	}
	out := picked{good: make(map[*entry][]document)}
	for _, winner := range p.winners {
		out.objects = append(out.objects, winner.Object)
		p.won[winner.from] = append(p.won[winner.from], winner)
	}
	for _, e := range entries {
		out.good[e] = p.good(e)
		p.tell(e)
	}
	slices.SortFunc(out.objects, func(a, b Object) int { return a.Key().compare(b.Key()) })
	slices.SortStableFunc(p.refused, func(a, b Refusal) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Field, b.Field), cmp.Compare(a.Reason, b.Reason))
	})
	out.refused = p.refused
	return out
}

// mourn notes what a file held that is not there.
func (p *picker) mourn(e *entry) {
	p.away[e.path] = e
	for key := range objectsOf(e.good) {
		p.had[key.NamespacedName] = append(p.had[key.NamespacedName], e)
	}
}

// claim collects every version of every object that a file can speak for.
func (p *picker) claim(e *entry) {
	switch e.presence {
	case unread:
		p.add(e, e.good, current, anything)
	case present:
		p.claimPresent(e)
	case missing:
		p.add(e, e.good, orphaned, anything)
	case gone:
	}
}

// claimPresent claims what stands in a file and, for what is refused there, what was good last in it or in a file that
// is not there any more.
func (p *picker) claimPresent(e *entry) {
	p.add(e, e.docs, current, anything)
	named, all := refusedIn(e.docs)
	if len(e.good) > 0 {
		holds := objectsOf(e.docs)
		p.add(e, e.good, standsIn, func(key Key) bool { return all || named.cover(key) || holds[key] })
	}
	for _, other := range p.bequeathed(e, named) {
		p.add(e, other.good, standsIn, func(key Key) bool {
			return other.path == e.twin && all || named.cover(key)
		})
	}
}

func anything(Key) bool { return true }

// keys are those that refusals name, some without a kind.
type keys map[Key]bool

func (k keys) cover(key Key) bool { return k[key] || k[Key{NamespacedName: key.NamespacedName}] }

// refusedIn tells whose last good version stands in for the refused documents: the objects they name or, where one of them
// cannot even be read that far, all.
func refusedIn(docs []document) (named keys, all bool) {
	named = make(keys)
	for _, doc := range docs {
		for _, r := range doc.refused {
			named[r.Of] = true
			all = all || r.Of.Name == ""
		}
	}
	return named, all
}

func objectsOf(docs []document) keys {
	found := make(keys)
	for _, doc := range docs {
		for _, o := range doc.objects {
			found[o.Key()] = true
		}
	}
	return found
}

// bequeathed lists the files that are away, by path, whose last good versions may stand in for what is refused in this
// one: itself under its earlier name, and any that had one of these names.
func (p *picker) bequeathed(e *entry, named keys) []*entry {
	var others []*entry
	if twin, ok := p.away[e.twin]; ok {
		others = append(others, twin)
	}
	for key := range named {
		others = append(others, p.had[key.NamespacedName]...)
	}
	slices.SortFunc(others, func(a, b *entry) int { return strings.Compare(a.path, b.path) })
	return slices.Compact(others)
}

func (p *picker) add(e *entry, docs []document, standing standing, wanted func(Key) bool) {
	for i := range docs {
		for _, o := range docs[i].objects {
			if !wanted(o.Key()) {
				continue
			}
			p.count++
			c := claim{Object: o, from: e, doc: &docs[i], standing: standing, order: p.count}
			c.File = e.path
			p.claims[o.Key()] = append(p.claims[o.Key()], c)
		}
	}
}

// keys puts what was wanted first, then as they stand, and reserves the UIDs that Pods go on to have.
func (p *picker) keys() []Key {
	keys := make([]Key, 0, len(p.claims))
	for key, claims := range p.claims {
		keys = append(keys, key)
		slices.SortFunc(claims, p.rank)
		if was, ok := p.running[key]; ok && was.podUID() != "" && claims[0].podUID() == was.podUID() {
			p.uids[was.podUID()] = key
		}
	}
	slices.SortFunc(keys, func(a, b Key) int {
		_, aRan := p.running[a]
		_, bRan := p.running[b]
		return cmp.Or(last(!aRan, !bRan), cmp.Compare(p.claims[a][0].order, p.claims[b][0].order))
	})
	return keys
}

// rank orders the versions of one object, the best first.
func (p *picker) rank(a, b claim) int {
	was := p.running[a.Key()]
	return cmp.Or(
		last(a.standing == orphaned, b.standing == orphaned),
		last(a.File != was.File, b.File != was.File),
		cmp.Compare(a.File, b.File),
		last(a.standing == standsIn, b.standing == standsIn),
		last(a.Revision != was.Revision, b.Revision != was.Revision),
		cmp.Compare(a.order, b.order),
	)
}

func last(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// settle takes the best version of an object and refuses the others that stand in a file now.
func (p *picker) settle(key Key) {
	won := false
	for _, c := range p.claims[key] {
		holder, taken := p.uids[c.podUID()]
		switch {
		case won && c.standing == current:
			winner := p.winners[key]
			p.refuse(c, "metadata.name", fmt.Sprintf("%s is already defined at %s:%d: give one of them another name, or remove it",
				key, winner.File, winner.Line))
		case won:
		case c.standing == current && p.frozen(c):
		case taken && holder != key:
			p.refuse(c, "metadata.uid", fmt.Sprintf("%q is the UID of %s already: remove it, podkeeper finds one", c.podUID(), holder))
		default:
			won = true
			p.winners[key] = c
			if uid := c.podUID(); uid != "" {
				p.uids[uid] = key
			}
		}
	}
}

// frozen refuses an edit of what must not be edited.
func (p *picker) frozen(c claim) bool {
	was, ran := p.running[c.Key()]
	if !ran || was.Revision == c.Revision || !isImmutable(was.Object) {
		return false
	}
	faults := kinds[c.Kind].edit(c.Object.Object, was.Object)
	if len(faults) > 0 {
		p.refuse(c, faults[0].Field, faults[0].ErrorBody()+": give the "+c.Kind+" another name, or remove it first")
	}
	return len(faults) > 0
}

func (p *picker) refuse(c claim, name, reason string) {
	if c.standing != current {
		return
	}
	p.taken[c.from] = append(p.taken[c.from], Refusal{File: c.File, Line: c.Line, Field: name, Reason: reason, Of: c.Key()})
}

// good lists the documents of a file that won, in order, so that they can be kept.
func (p *picker) good(e *entry) []document {
	won := p.won[e]
	slices.SortFunc(won, func(a, b claim) int { return cmp.Compare(a.order, b.order) })
	var docs []document
	seen := make(map[*document]bool)
	for _, c := range won {
		if !seen[c.doc] {
			seen[c.doc] = true
			docs = append(docs, *c.doc)
		}
	}
	return docs
}

// tell passes on the refusals of a file, with whether the last good version stands in.
func (p *picker) tell(e *entry) {
	kept := make(keys)
	for _, c := range p.won[e] {
		if c.standing == standsIn {
			kept[c.Key()] = true
		}
	}
	for _, r := range p.taken[e] {
		r.Kept = kept[r.Of] && r.Field != "metadata.name"
		p.refused = append(p.refused, r)
	}
	if e.away() {
		return
	}
	for _, doc := range e.docs {
		for _, r := range doc.refused {
			r.Kept = r.keptBy(kept)
			p.refused = append(p.refused, r)
		}
	}
}
