package manifests

import "testing"

func TestLine(t *testing.T) {
	t.Parallel()
	const text = "# first\nkind: X\nlist:\n- a: 1\n- b: 2\n"
	for name, want := range map[string]int{"kind": 2, "list": 3, "list[1].b": 5, "list[0].none": 4, "none": 2} {
		if got := Line([]byte(text), name); got != want {
			t.Errorf("%s is on line %d, want %d", name, got, want)
		}
	}
	for _, text := range []string{"", "{", "# nothing"} {
		if got := Line([]byte(text), "kind"); got != 0 {
			t.Errorf("%q has it on line %d", text, got)
		}
	}
}
