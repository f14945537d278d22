package manifests

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// entry is one manifest file: what stands in it now, and what was good last.
type entry struct {
	path string
	read bool       // docs are what the file holds; before, all that is known is good
	docs []document // what stands in the file
	good []document // those documents, of now or earlier, that Pods were taken from
	gone bool       // the file is not there at the moment: any other that has its Pods takes them over
	lost bool       // gone for good: what it held is only of use to a file that it was moved to
	twin string     // the path of an entry that is gone and was this very file: it was renamed
}

// claim is one version of a Pod that could be the one that is wanted.
type claim struct {
	Pod
	from  *entry
	doc   *document
	fresh bool // from what the file holds now, not from what was good last
	weak  bool // from a file that is gone
	order int
}

// picked is the outcome of pick: the wanted Pods, the refusals and, for each file, the documents that Pods came from.
type picked struct {
	pods    []Pod
	refused []Refusal
	good    map[*entry][]document
}

// picker decides which version of each Pod is wanted.
type picker struct {
	running map[types.NamespacedName]Pod
	claims  map[types.NamespacedName][]claim
	winners map[types.NamespacedName]claim
	uids    map[types.UID]types.NamespacedName
	refused []Refusal
	count   int
}

// pick settles who is wanted, given all files, sorted by path, and the Pods that were wanted before. Of one name, the
// file that had it keeps it; a file's present content comes before its last good one, which stands in for documents that
// are refused. A name, or a UID, that is taken is refused to the second who wants it.
func pick(entries []*entry, running map[types.NamespacedName]Pod) picked {
	p := &picker{
		running: running,
		claims:  make(map[types.NamespacedName][]claim),
		winners: make(map[types.NamespacedName]claim),
		uids:    make(map[types.UID]types.NamespacedName),
	}
	for _, e := range entries {
		p.claim(e, entries)
	}
	for _, key := range p.keys() {
		p.settle(key)
	}
	out := picked{good: make(map[*entry][]document)}
	for _, e := range entries {
		out.good[e] = p.good(e)
		p.tell(e)
	}
	for _, winner := range p.winners {
		out.pods = append(out.pods, winner.Pod)
	}
	slices.SortFunc(out.pods, func(a, b Pod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	slices.SortStableFunc(p.refused, func(a, b Refusal) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Field, b.Field), cmp.Compare(a.Reason, b.Reason))
	})
	out.refused = p.refused
	return out
}

// claim collects every version of every Pod that a file can speak for.
func (p *picker) claim(e *entry, all []*entry) {
	if e.lost {
		return
	}
	if e.gone || !e.read {
		p.add(e, e.good, claim{fresh: true, weak: e.gone}, anything)
		return
	}
	p.add(e, e.docs, claim{fresh: true}, anything)
	mine := speaksFor(e.docs)
	p.add(e, e.good, claim{}, func(key types.NamespacedName) bool { return mine(key) || holds(e.docs, key) })
	for _, other := range all {
		if other.gone {
			p.add(e, other.good, claim{}, func(key types.NamespacedName) bool {
				return other.path == e.twin && mine(key) || named(e.docs, key)
			})
		}
	}
}

func anything(types.NamespacedName) bool { return true }

// speaksFor tells whose last good version stands in for the refused documents: the Pods they name or, where one of them
// cannot even be read that far, any.
func speaksFor(docs []document) func(types.NamespacedName) bool {
	for _, doc := range docs {
		for _, r := range doc.refused {
			if r.Pod.Name == "" {
				return anything
			}
		}
	}
	return func(key types.NamespacedName) bool { return named(docs, key) }
}

func holds(docs []document, key types.NamespacedName) bool {
	for _, doc := range docs {
		if slices.ContainsFunc(doc.pods, func(p Pod) bool { return p.key() == key }) {
			return true
		}
	}
	return false
}

func named(docs []document, key types.NamespacedName) bool {
	for _, doc := range docs {
		for _, r := range doc.refused {
			if r.Pod == key {
				return true
			}
		}
	}
	return false
}

func (p *picker) add(e *entry, docs []document, kind claim, wanted func(types.NamespacedName) bool) {
	for i := range docs {
		for _, pod := range docs[i].pods {
			if !wanted(pod.key()) {
				continue
			}
			p.count++
			c := kind
			c.Pod, c.from, c.doc, c.order = pod, e, &docs[i], p.count
			c.File = e.path
			p.claims[pod.key()] = append(p.claims[pod.key()], c)
		}
	}
}

// keys puts the Pods that ran first, then as they stand, and reserves the UIDs that they go on to have.
func (p *picker) keys() []types.NamespacedName {
	keys := make([]types.NamespacedName, 0, len(p.claims))
	for key, claims := range p.claims {
		keys = append(keys, key)
		slices.SortFunc(claims, p.rank)
		if was, ok := p.running[key]; ok && was.UID != "" && claims[0].UID == was.UID {
			p.uids[was.UID] = key
		}
	}
	slices.SortFunc(keys, func(a, b types.NamespacedName) int {
		_, aRan := p.running[a]
		_, bRan := p.running[b]
		return cmp.Or(last(!aRan, !bRan), cmp.Compare(p.claims[a][0].order, p.claims[b][0].order))
	})
	return keys
}

// rank orders the versions of one Pod, the best first.
func (p *picker) rank(a, b claim) int {
	was := p.running[a.key()]
	return cmp.Or(
		last(a.weak, b.weak),
		last(a.File != was.File, b.File != was.File),
		cmp.Compare(a.File, b.File),
		last(!a.fresh, !b.fresh),
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

// settle takes the best version of a Pod and refuses the others that stand in a file now.
func (p *picker) settle(key types.NamespacedName) {
	won := false
	for _, c := range p.claims[key] {
		holder, taken := p.uids[c.UID]
		switch {
		case won && c.fresh && !c.weak:
			winner := p.winners[key]
			p.refuse(c, "metadata.name", fmt.Sprintf("Pod %s is already defined at %s:%d: give one of them another name, or remove it",
				key, winner.File, winner.Line))
		case won:
		case c.UID != "" && taken && holder != key:
			p.refuse(c, "metadata.uid", fmt.Sprintf("%q is the UID of Pod %s already: remove it, podkeeper finds one", c.UID, holder))
		default:
			won = true
			p.winners[key] = c
			if c.UID != "" {
				p.uids[c.UID] = key
			}
		}
	}
}

func (p *picker) refuse(c claim, name, reason string) {
	if !c.fresh || c.weak {
		return
	}
	p.refused = append(p.refused, Refusal{File: c.File, Line: c.Line, Field: name, Reason: reason, Pod: c.key()})
}

// good lists the documents of a file that won, so that they can be kept.
func (p *picker) good(e *entry) []document {
	var docs []document
	for _, source := range p.sources(e) {
		docs = append(docs, *source)
	}
	return docs
}

func (p *picker) sources(e *entry) []*document {
	var won []claim
	for _, c := range p.winners {
		if c.from == e {
			won = append(won, c)
		}
	}
	slices.SortFunc(won, func(a, b claim) int { return cmp.Compare(a.order, b.order) })
	var sources []*document
	for _, c := range won {
		if !slices.Contains(sources, c.doc) {
			sources = append(sources, c.doc)
		}
	}
	return sources
}

// tell passes on the refusals of a file, with whether the last good version stands in.
func (p *picker) tell(e *entry) {
	kept := make(map[types.NamespacedName]bool)
	for key, c := range p.winners {
		if c.from == e && !c.fresh {
			kept[key] = true
		}
	}
	for _, doc := range e.docs {
		if e.gone || e.lost {
			return
		}
		for _, r := range doc.refused {
			r.Kept = kept[r.Pod] || r.Pod.Name == "" && len(kept) > 0
			p.refused = append(p.refused, r)
		}
	}
	for i, r := range p.refused {
		if r.File == e.path && strings.HasPrefix(r.Field, "metadata.uid") && kept[r.Pod] {
			p.refused[i].Kept = true
		}
	}
}
