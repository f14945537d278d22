package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"
	"k8s.io/utils/exec"
)

// serveV5 does a session over WebSocket with v5.channel.k8s.io, which unlike v4 can say that the input has ended. The library
// leaves that to a proxy of the API server, which speaks to it over SPDY.
func serveV5(w http.ResponseWriter, r *http.Request, options *remotecommand.Options, of session) {
	kinds := make([]wsstream.ChannelType, remotecommand.StreamResize+1)
	kinds[remotecommand.StreamStdIn] = channel(options.Stdin, wsstream.ReadChannel)
	kinds[remotecommand.StreamStdOut] = channel(options.Stdout, wsstream.WriteChannel)
	kinds[remotecommand.StreamStdErr] = channel(options.Stderr, wsstream.WriteChannel)
	kinds[remotecommand.StreamErr] = wsstream.WriteChannel
	kinds[remotecommand.StreamResize] = wsstream.ReadChannel
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{
		remotecommand.StreamProtocolV5Name: {Binary: true, Channels: kinds},
	})
	conn.SetIdleTimeout(streamIdle)
	_, channels, err := conn.Open(w, r)
	if err != nil {
		return // the library has answered
	}
	defer func() { _ = conn.Close() }()
	first := remotecommand.StreamErr
	switch {
	case options.Stdout:
		first = remotecommand.StreamStdOut
	case options.Stderr:
		first = remotecommand.StreamStdErr
	}
	_, _ = channels[first].Write(nil) // a client waits for it: now it is connected
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	resize := make(chan remotecommand.TerminalSize)
	go sizes(ctx, channels[remotecommand.StreamResize], resize)
	err = of.run(ctx, streamsOf(options, channels[remotecommand.StreamStdIn], channels[remotecommand.StreamStdOut], channels[remotecommand.StreamStdErr], resize))
	if status, err := json.Marshal(of.outcome(err)); err == nil {
		_, _ = channels[remotecommand.StreamErr].Write(status)
	}
}

// channel is of a kind where it was asked for.
func channel(asked bool, kind wsstream.ChannelType) wsstream.ChannelType {
	if asked {
		return kind
	}
	return wsstream.IgnoreChannel
}

// sizes passes on the sizes of a terminal until ctx or the stream ends.
func sizes(ctx context.Context, from io.Reader, to chan<- remotecommand.TerminalSize) {
	defer close(to)
	decoder := json.NewDecoder(from)
	for {
		var size remotecommand.TerminalSize
		if decoder.Decode(&size) != nil {
			_, _ = io.Copy(io.Discard, from) // what is no size must not hold up the other channels
			return
		}
		select {
		case to <- size:
		case <-ctx.Done():
			return
		}
	}
}

// outcome is what a client is told of the end of a session, as the kubelet does.
func (s session) outcome(err error) metav1.Status {
	var exited exec.ExitError
	switch {
	case err == nil:
		return metav1.Status{Status: metav1.StatusSuccess}
	case errors.As(err, &exited) && exited.Exited():
		return metav1.Status{
			Status: metav1.StatusFailure, Reason: remotecommand.NonZeroExitCodeReason,
			Message: fmt.Sprintf("command terminated with non-zero exit code: %v", exited),
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: remotecommand.ExitCodeCauseType, Message: strconv.Itoa(exited.ExitStatus())}}},
		}
	}
	return apierrors.NewInternalError(fmt.Errorf("error %s container: %w", s.what, err)).Status()
}
