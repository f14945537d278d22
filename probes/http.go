package probes

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// maxRedirects is how many redirects within the host are followed, as by [http.Client] left to itself.
const maxRedirects = 10

// newHTTPCheck asks with a GET: a status from 200 to 399 is Success, though a redirect to another host is not followed
// and is a Warning.
func newHTTPCheck(get *v1.HTTPGetAction, t Target) (Check, error) {
	r, err := newRequester(get, t, userAgent)
	if err != nil {
		return nil, fmt.Errorf("make httpGet probe: %w", err)
	}
	client := r.client()
	return func(ctx context.Context) (Result, string, error) {
		req, err := r.request(ctx, r.scheme)
		if err != nil {
			return Unknown, "", err
		}
		return ask(client, req)
	}, nil
}

// requester makes the requests of a handler.
type requester struct {
	at     endpoint
	scheme string // http or https
	path   string
	header http.Header
	h2c    bool // HTTP/2 in clear text
}

func newRequester(get *v1.HTTPGetAction, t Target, agent string) (*requester, error) {
	at, err := newEndpoint(get.Host, get.Port, t)
	if err != nil {
		return nil, err
	}
	r := &requester{
		at: at, scheme: "http", path: get.Path, header: httpHeader(get.HTTPHeaders, agent),
		h2c: get.Protocol != nil && *get.Protocol == v1.HTTPProtocolHTTP2,
	}
	if get.Scheme != "" {
		r.scheme = strings.ToLower(string(get.Scheme))
	}
	if _, err := r.request(context.Background(), r.scheme); err != nil && !errors.Is(err, errNoAddress) {
		return nil, err
	}
	return r, nil
}

func (r *requester) request(ctx context.Context, scheme string) (*http.Request, error) {
	addr, err := r.at()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, httpURL(scheme, addr, r.path).String(), nil)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header = r.header.Clone()
	req.Host = r.header.Get("Host")
	return req, nil
}

// client keeps no connection from one request to the next.
func (r *requester) client() *http.Client {
	return &http.Client{Transport: transport(r.h2c), CheckRedirect: sameHost}
}

// ask makes the request. Whatever goes wrong on the way to the whole answer is a Failure: the container was asked and
// did not answer.
func ask(client *http.Client, req *http.Request) (result Result, output string, err error) {
	res, err := client.Do(req)
	if err != nil {
		return Failure, err.Error(), nil
	}
	body, readErr := io.ReadAll(io.LimitReader(res.Body, maxOutput))
	if err := errors.Join(readErr, res.Body.Close()); err != nil {
		return Failure, fmt.Sprintf("read response body: %v", err), nil
	}
	switch {
	case res.StatusCode < http.StatusOK || res.StatusCode >= http.StatusBadRequest:
		// Without the body, which may hold what must not be in an event (kubernetes/kubernetes#99425).
		return Failure, fmt.Sprintf("HTTP probe failed with statuscode: %d", res.StatusCode), nil
	case res.StatusCode >= http.StatusMultipleChoices:
		return Warning, truncate("Probe terminated redirects, Response body: " + string(body)), nil
	default:
		return Success, string(body), nil
	}
}

// transport is how a check speaks HTTP: no proxy of the node, no connection kept, no compression, certificates not
// verified, though a redirect leads to them; HTTP/2 where TLS agrees on it, or in clear text where the probe asks for that.
func transport(h2c bool) *http.Transport {
	t := &http.Transport{
		DialContext:        dial,
		DisableKeepAlives:  true,
		DisableCompression: true, // it would send Accept-Encoding
	}
	if h2c {
		t.Protocols = new(http.Protocols)
		t.Protocols.SetUnencryptedHTTP2(true)
		return t
	}
	t.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // as Kubernetes documents it
	t.ForceAttemptHTTP2 = true
	return t
}

// sameHost follows redirects within the host only, so that a probe cannot be sent around the node's network.
func sameHost(req *http.Request, via []*http.Request) error {
	if req.URL.Hostname() != via[0].URL.Hostname() {
		return http.ErrUseLastResponse
	}
	if len(via) >= maxRedirects {
		return fmt.Errorf("stopped after %d redirects", maxRedirects)
	}
	return nil
}

// httpURL puts an address and a handler's path, which may have a query, together.
func httpURL(scheme, addr, path string) *url.URL {
	u, err := url.Parse(path)
	if err != nil {
		u = &url.URL{Path: path} // sent escaped, as Kubernetes does
	}
	u.Scheme, u.Host = scheme, addr
	return u
}

// httpHeader are the handler's headers and the two that a request always has. An empty Accept of the handler's takes that
// header away.
func httpHeader(list []v1.HTTPHeader, agent string) http.Header {
	h := http.Header{}
	for _, e := range list {
		h.Add(e.Name, e.Value)
	}
	if _, set := h["User-Agent"]; !set {
		h.Set("User-Agent", agent)
	}
	if _, set := h["Accept"]; !set {
		h.Set("Accept", "*/*")
	} else if h.Get("Accept") == "" {
		h.Del("Accept")
	}
	return h
}

// truncate cuts an output to what is kept of it.
func truncate(s string) string {
	return s[:min(len(s), maxOutput)]
}
