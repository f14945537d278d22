// Package runtime is containerd's client: images, containers and their OCI spec, exec, exit
// events and log files.
//
// Everything is done by id and is idempotent: what is already done counts as success, what is already gone too. The package
// keeps no state of its own that containerd or the kernel could contradict, and knows nothing of restarts, probes or
// manifests: it is handed finished values (an OCI resources struct, a netns path, a list of mounts) and carries them out.
package runtime
