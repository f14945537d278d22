package probes

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// maxOutput is how much of what a check answered is kept, in bytes (pkg/probe/http and pkg/probe/exec: 10 KiB).
const maxOutput = 10 << 10

// userAgent is what Kubernetes 1.37 calls itself when it probes.
const userAgent = "kube-probe/1.37"

// Check asks a container once how it is. The context carries the timeout. It returns the result and at most 10 KiB of
// what was answered; an error only when the check itself could not be made, which says nothing about the container.
type Check func(ctx context.Context) (result Result, output string, err error)

// ExecFunc runs a command in the container and returns its exit status and output (stdout and stderr together). An
// error that wraps [context.DeadlineExceeded] means that the command did not end in time, any other that it could not
// be run. It gets the command as the manifest has it: putting in the values of $(VAR) is the caller's, who knows the
// environment.
type ExecFunc func(ctx context.Context, command []string) (exitCode int, output []byte, err error)

// Target is the container instance that a check asks.
type Target struct {
	PodIP     func() string // where the handler names no host; asked at every check, for a node's address may change
	Container *v1.Container // for the names of its ports
}

// errNoAddress is the answer to a handler without a host in a Pod without an IP.
var errNoAddress = errors.New("the Pod has no IP and the probe names no host")

// NewCheck makes the check that a probe's handler asks for; exec may be nil where the handler is another one. The
// errors are those of a probe that can never be made: no handler, a port name that the container does not have, a port
// out of range. A Pod without an IP is one of each check.
func NewCheck(p *v1.Probe, t Target, exec ExecFunc) (Check, error) {
	switch {
	case p.Exec != nil:
		if exec == nil {
			return nil, errors.New("make exec probe: nothing to run commands with")
		}
		return execCheck(p.Exec.Command, exec), nil
	case p.HTTPGet != nil:
		return newHTTPCheck(p.HTTPGet, t)
	case p.TCPSocket != nil:
		at, err := newEndpoint(p.TCPSocket.Host, p.TCPSocket.Port, t)
		if err != nil {
			return nil, fmt.Errorf("make tcpSocket probe: %w", err)
		}
		return tcpCheck(at), nil
	case p.GRPC != nil:
		at, err := newEndpoint("", intstr.FromInt32(p.GRPC.Port), t)
		if err != nil {
			return nil, fmt.Errorf("make grpc probe: %w", err)
		}
		return grpcCheck(at, p.GRPC), nil
	default:
		return nil, errors.New("make probe: no handler is set (exec, httpGet, tcpSocket or grpc)")
	}
}

// execCheck runs a command in the container: exit status 0 is Success.
func execCheck(command []string, exec ExecFunc) Check {
	return func(ctx context.Context) (Result, string, error) {
		code, output, err := exec(ctx, command)
		if len(output) > maxOutput {
			output = output[:maxOutput]
		}
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return Failure, err.Error(), nil
		case err != nil:
			return Unknown, "", fmt.Errorf("run probe command: %w", err)
		case code != 0:
			return Failure, string(output), nil
		default:
			return Success, string(output), nil
		}
	}
}

// tcpCheck opens a connection: being let in is Success.
func tcpCheck(at endpoint) Check {
	return func(ctx context.Context) (Result, string, error) {
		addr, err := at()
		if err != nil {
			return Unknown, "", err
		}
		conn, err := dial(ctx, "tcp", addr)
		if err != nil {
			return Failure, err.Error(), nil
		}
		if err := conn.Close(); err != nil {
			return Success, fmt.Sprintf("close connection: %v", err), nil // it was let in
		}
		return Success, "", nil
	}
}

// dial connects for a probe. Closing such a connection leaves the port in TIME-WAIT for a second, not a minute: many
// probes would use up the node's ports otherwise (kubernetes/kubernetes#89898).
func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1}
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err // names the operation and the address already
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		if err := tcp.SetLinger(1); err != nil {
			return nil, errors.Join(fmt.Errorf("set linger: %w", err), conn.Close())
		}
	}
	return conn, nil
}

// endpoint is where a handler's host and port point to now.
type endpoint func() (addr string, err error)

// newEndpoint points to the Pod where no host is named, and to the container's port of that name where the port is a
// name.
func newEndpoint(host string, port intstr.IntOrString, t Target) (endpoint, error) {
	number, err := portNumber(port, t.Container)
	if err != nil {
		return nil, err
	}
	return func() (string, error) {
		host := host
		if host == "" && t.PodIP != nil {
			host = t.PodIP()
		}
		if host == "" {
			return "", errNoAddress
		}
		return net.JoinHostPort(host, strconv.Itoa(number)), nil
	}, nil
}

// portNumber resolves a port that may be a name.
func portNumber(port intstr.IntOrString, c *v1.Container) (int, error) {
	number := port.IntVal
	if port.Type == intstr.String {
		number = 0
		if c != nil {
			for _, p := range c.Ports {
				if p.Name == port.StrVal {
					number = p.ContainerPort
				}
			}
		}
		if number == 0 {
			return 0, fmt.Errorf("port %q is not among the container's ports", port.StrVal)
		}
	}
	if number < 1 || number > 65535 {
		return 0, fmt.Errorf("port %d is not between 1 and 65535", number)
	}
	return int(number), nil
}
