package node

import "testing"

func TestTheNameOfASystem(t *testing.T) {
	t.Parallel()
	for release, want := range map[string]string{
		"NAME=Debian\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n": "Debian GNU/Linux 13 (trixie)",
		"PRETTY_NAME='Alpine Linux v3.22'":                            "Alpine Linux v3.22",
		"NAME=x\n":                                                    "Unknown",
		"":                                                            "Unknown",
	} {
		if got := osImage(release); got != want {
			t.Errorf("%q is %q, want %q", release, got, want)
		}
	}
}
