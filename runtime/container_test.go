package runtime

import "testing"

func TestIDs(t *testing.T) {
	t.Parallel()
	ids := map[string]bool{ID("uid", "", 0): true, ID("uid", "app", 0): true, ID("uid", "app", 1): true, ID("other", "app", 0): true}
	if len(ids) != 4 {
		t.Errorf("only %d of them differ", len(ids))
	}
	for id := range ids {
		if !isID(id) {
			t.Errorf("%q is none", id)
		}
	}
	for _, name := range []string{"", "sha256:" + ID("uid", "", 0), ID("uid", "", 0)[:62], "extract-123-abcd sha256:00", ID("uid", "", 0) + "/view"} {
		if isID(name) {
			t.Errorf("%q is one", name)
		}
	}
}
