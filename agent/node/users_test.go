package node

import (
	"log/slog"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestFreeUsers(t *testing.T) {
	t.Parallel()
	const unit = UsersUnit
	for sentence, r := range map[string]struct {
		begin, count uint32
		taken        []Users
		want         Users
		none         bool
	}{
		"nothing is taken: where it begins":               {begin: 5 * unit, count: unit, want: Users{5 * unit, unit}},
		"the first ids are the host's":                    {begin: 0, count: unit, want: Users{unit, unit}},
		"the next one, where that is taken":               {begin: 5 * unit, count: unit, taken: []Users{{6 * unit, unit}, {5 * unit, unit}}, want: Users{7 * unit, unit}},
		"a gap between two":                               {begin: 5 * unit, count: unit, taken: []Users{{5 * unit, unit}, {7 * unit, unit}}, want: Users{6 * unit, unit}},
		"no gap that is too small":                        {begin: 5 * unit, count: 2 * unit, taken: []Users{{5 * unit, unit}, {7 * unit, unit}}, want: Users{8 * unit, 2 * unit}},
		"ids that are not even multiples are gone around": {begin: unit, count: unit, taken: []Users{{100000, 65536}}, want: Users{3 * unit, unit}},
		"from the lowest on, where there are none above":  {begin: 5 * unit, count: unit, taken: []Users{{5 * unit, lastUsers - 5*unit}}, want: Users{unit, unit}},
		"the last ones":                                   {begin: lastUsers - unit, count: unit, want: Users{lastUsers - unit, unit}},
		"none beyond them":                                {begin: lastUsers, count: unit, want: Users{unit, unit}},
		"what takes nothing takes nothing":                {begin: unit, count: unit, taken: []Users{{unit, 0}}, want: Users{unit, unit}},
		"all are taken":                                   {begin: unit, count: unit, taken: []Users{{unit, lastUsers - unit}}, none: true},
		"more than there are":                             {begin: unit, count: lastUsers, none: true},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			if got, ok := freeUsers(r.begin, r.count, r.taken); ok == r.none || got != r.want {
				t.Errorf("got %v, %v, want %v", got, ok, r.want)
			}
		})
	}
}

// Whatever comes and goes: nobody ever has what another has.
func TestUsersAreNobodyElses(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		begin := rapid.Uint32Range(0, lastUsers/UsersUnit).Draw(t, "begin") * UsersUnit
		var taken []Users
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			if len(taken) > 0 && rapid.Bool().Draw(t, "one goes") {
				taken = slices.Delete(taken, 0, 1)
				continue
			}
			count := rapid.Uint32Range(1, 9000).Draw(t, "units") * UsersUnit
			got, ok := freeUsers(begin, count, taken)
			if !ok {
				continue
			}
			if got.Count != count || got.First%UsersUnit != 0 || got.First < UsersUnit || uint64(got.First)+uint64(got.Count) > lastUsers {
				t.Fatalf("%v for %d", got, count)
			}
			for _, other := range taken {
				if uint64(got.First) < uint64(other.First)+uint64(other.Count) && uint64(other.First) < uint64(got.First)+uint64(got.Count) {
					t.Fatalf("%v and %v", got, other)
				}
			}
			taken = append(taken, got)
		}
	})
}

func TestEachRootDirectoryBeginsElsewhere(t *testing.T) {
	t.Parallel()
	firsts := map[uint32]bool{}
	for _, identity := range []string{"one", "two", "three"} {
		n := &Node{Identity: identity, IDsPerPod: UsersUnit, Log: slog.New(slog.DiscardHandler)}
		got, ok := n.FreeUsers(nil)
		again, _ := n.FreeUsers(nil)
		if !ok || got != again || got.Count != UsersUnit {
			t.Errorf("%s has %v and %v", identity, got, again)
		}
		firsts[got.First] = true
	}
	if len(firsts) != 3 {
		t.Errorf("they begin at %v", firsts)
	}
	n := &Node{Identity: "one", IDsPerPod: 3 * UsersUnit, Log: slog.New(slog.DiscardHandler)}
	if got, ok := n.FreeUsers(nil); !ok || got.Count != 3*UsersUnit {
		t.Errorf("of three units it has %v", got)
	}
}

func TestSubordinate(t *testing.T) {
	t.Parallel()
	content := "ann:100000:65536\n\n# nothing\nbob:165536:10\nbroken:x:1\nshort:1\n1000:4294967295:1\nhuge:1:4294967296\n"
	if got, want := subordinate(content), []Users{{100000, 65536}, {165536, 10}, {4294967295, 1}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
