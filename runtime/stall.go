package runtime

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// stallAfter is how long a registry may send nothing before a pull is given up. The pull as a whole may take any time.
const stallAfter = time.Minute

// watchdog ends a pull whose registry has stopped talking.
type watchdog struct{ cancel context.CancelCauseFunc }

// watch puts the watchdog on every request of a client.
func (w *watchdog) watch(c *http.Client) error {
	inner := c.Transport
	if inner == nil {
		inner = http.DefaultTransport
	}
	c.Transport = &watchedTransport{inner: inner, watchdog: w}
	return nil
}

type watchedTransport struct {
	inner    http.RoundTripper
	watchdog *watchdog
}

// RoundTrip bounds the wait for an answer and for each further piece of its body.
func (t *watchedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	host := req.URL.Host
	timer := time.AfterFunc(stallAfter, func() {
		t.watchdog.cancel(fmt.Errorf("%s has sent nothing for %v", host, stallAfter))
	})
	resp, err := t.inner.RoundTrip(req)
	if err != nil {
		timer.Stop()
		return nil, err
	}
	timer.Stop()
	resp.Body = &watchedBody{ReadCloser: resp.Body, timer: timer}
	return resp, nil
}

type watchedBody struct {
	io.ReadCloser
	timer *time.Timer
}

// Read is watched while it waits for the registry. Between reads it is containerd's disk that is waited for.
func (b *watchedBody) Read(p []byte) (int, error) {
	b.timer.Reset(stallAfter)
	defer b.timer.Stop()
	return b.ReadCloser.Read(p)
}
