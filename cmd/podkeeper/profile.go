//go:build profile

package main

import (
	"errors"
	"io/fs"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
)

// A build with the tag profile serves net/http/pprof on the unix socket that PODKEEPER_PROFILE names. Only the benchmark
// makes one: no binary that is shipped has this.
func init() {
	path := os.Getenv("PODKEEPER_PROFILE")
	if path == "" || len(os.Args) < 2 || os.Args[1] != "agent" {
		return
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Fatal(err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(listener, nil)) }()
}
