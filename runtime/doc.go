// Package runtime is containerd's client: images, containers and their OCI spec, exec, exit
// events and log files.
//
// Everything is done by id and is idempotent: what is already done counts as success, what is already gone too. The package
// keeps no state of its own that containerd or the kernel could contradict, and knows nothing of restarts, probes or
// manifests: it is handed finished values (an OCI resources struct, a netns path, a list of mounts) and carries them out.
// The one thing that neither knows is who may use an image that was pulled: that stands in files.
//
//	credentials  what pull secrets hold, and what of it is for an image
//	providers    programs that have credentials of the node's
//	pullrecords  who has pulled what
//
// A pull goes through image.go (is it needed?), pull.go (shared, one ticket after another), tickets.go (what a registry is
// shown), pullturns.go (whose turn it is), ingests.go (what is kept when it breaks off), stall.go and progress.go.
package runtime
