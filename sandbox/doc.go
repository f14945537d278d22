// Package sandbox keeps what the containers of a Pod share while they come and go: namespaces, and pipes held open. Both are
// held by a pause process of a few hundred bytes of assembly, which the agent starts itself, without a container runtime.
//
//	sandbox.go  a sandbox is started, looked at, deleted; whose death is told
//	launch.go   the way from the agent to a confined process: a thread goes there, and forks
//	users.go    the same for one in a user namespace, which owns all its others
//	root.go     the root file system of all pause processes: that one program, and nothing else
//	record.go   what an agent leaves to the next one, so that it knows the process again
//	process.go  a process that is held by more than its pid
//	pause/      the process: it waits to be let go, buries children, and sleeps
//
// The process has a mount namespace with nothing but its own program, no capabilities, a user that nobody else is, a filter
// of system calls, and no path of the host: the pipes are given to it as open descriptors. It ends neither with the agent nor
// for a new one, which knows it again by its pid, the time of its start and the boot.
//
// Nothing runs that is not recorded: the process is held by a read from a pipe until its record is written and, where
// somebody else makes the cgroup, until it is in there. An agent that is killed before that closes the pipe, and the process
// ends.
//
// The package must not know Pods, containerd or cgroups: it is handed paths and finished values.
package sandbox
