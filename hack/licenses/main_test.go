package main

import (
	"io"
	"strings"
	"testing"
)

// TestWhatIsLinkedMayBePassedOn finds a module without a licence that podkeeper may be passed on with.
func TestWhatIsLinkedMayBePassedOn(t *testing.T) {
	t.Parallel()
	modules, err := linked([]string{"../../cmd/..."})
	if err != nil {
		t.Fatal(err)
	}
	if len(modules) < 50 {
		t.Errorf("only %d modules are linked", len(modules))
	}
	if err := write(io.Discard, modules); err != nil {
		t.Error(err)
	}
}

func TestKindsOfLicences(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"Apache License\n   Version 2.0, January 2004":                                        "Apache-2.0",
		"Permission is hereby granted,\nfree of charge, to any person":                        "MIT",
		"Redistribution and use in source and binary\nforms … Neither the name of Google":     "BSD-3-Clause",
		"Redistribution and use in source and binary forms, with or without":                  "BSD-2-Clause",
		"Mozilla Public License Version 2.0":                                                  "MPL-2.0",
		"GNU GENERAL PUBLIC LICENSE Version 2 … Permission is hereby granted, free of charge": "",
		"All rights reserved.":   "",
		strings.Repeat("x", 100): "",
	} {
		if got := kindOf(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}
