package probes

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
)

// grpcBuffer is the size in bytes of a connection's read and write buffers: a health check is two small messages.
const grpcBuffer = 4 << 10

// grpcCheck calls grpc.health.v1.Health/Check: SERVING is Success, anything else a Failure. It waits for a server that
// is not there yet until the time is up.
func grpcCheck(at endpoint, action *v1.GRPCAction) Check {
	creds := insecure.NewCredentials()
	if action.Mode != nil && *action.Mode == v1.GRPCProbeModeTLS {
		creds = credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}) // as Kubernetes documents it
	}
	service := ""
	if action.Service != nil {
		service = *action.Service
	}
	return func(ctx context.Context) (_ Result, _ string, err error) {
		addr, err := at()
		if err != nil {
			return Unknown, "", err
		}
		conn, err := grpc.NewClient("passthrough:///"+addr,
			grpc.WithUserAgent(userAgent),
			grpc.WithTransportCredentials(creds),
			grpc.WithDisableServiceConfig(),
			grpc.WithReadBufferSize(grpcBuffer),
			grpc.WithWriteBufferSize(grpcBuffer),
			grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
				return dial(ctx, "tcp", addr)
			}))
		if err != nil {
			return Unknown, "", fmt.Errorf("make grpc client: %w", err)
		}
		defer func() { err = errors.Join(err, conn.Close()) }()

		req := &grpc_health_v1.HealthCheckRequest{Service: service}
		res, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, req, grpc.WaitForReady(true))
		if err != nil {
			return Failure, truncate(grpcFailure(err)), nil
		}
		if s := res.GetStatus(); s != grpc_health_v1.HealthCheckResponse_SERVING {
			return Failure, fmt.Sprintf("service unhealthy (responded with %q)", s), nil
		}
		return Success, "service healthy", nil
	}
}

// grpcFailure says in words what went wrong with a health call.
func grpcFailure(err error) string {
	s := status.Convert(err)
	switch s.Code() {
	case codes.Unimplemented:
		return "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): " + s.Message()
	case codes.DeadlineExceeded:
		return "timeout: health rpc did not complete in time: " + s.Message()
	default:
		return fmt.Sprintf("error: health rpc probe failed: %v", err)
	}
}
