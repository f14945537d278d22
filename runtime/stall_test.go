package runtime

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// slowly is a registry that takes its time: before it answers, and before each byte.
type slowly struct{ answer, piece time.Duration }

func (s slowly) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := s.wait(req.Context(), s.answer); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Body: &slowBody{s, req.Context(), strings.NewReader("abc")}}, nil
}

func (s slowly) wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

type slowBody struct {
	slowly
	ctx  context.Context
	rest *strings.Reader
}

func (b *slowBody) Read(p []byte) (int, error) {
	if err := b.wait(b.ctx, b.piece); err != nil {
		return 0, err
	}
	return b.rest.Read(p[:1])
}

func (b *slowBody) Close() error { return nil }

func TestARegistryThatStallsIsGivenUp(t *testing.T) {
	const patient = stallAfter - time.Second
	for sentence, r := range map[string]struct {
		registry  slowly
		busy      time.Duration // what the reader does before each read
		want      string
		wantAfter time.Duration
	}{
		"it answers at once":                    {slowly{}, 0, "", 0},
		"it is slow, but always says something": {slowly{patient, patient}, 0, "", 5 * patient},
		"it does not answer":                    {slowly{time.Hour, 0}, 0, "a.io has sent nothing for 1m0s", stallAfter},
		"it stops in the middle":                {slowly{0, time.Hour}, 0, "a.io has sent nothing for 1m0s", stallAfter},
		"it waits for who reads":                {slowly{}, time.Hour, "", 4 * time.Hour},
	} {
		t.Run(sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				client := &http.Client{Transport: r.registry}
				if err := (&watchdog{cancel: cancel}).watch(client); err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				err := readAll(ctx, client, r.busy)
				if r.want == "" && err != nil || r.want != "" && (err == nil || pullCause(ctx, err).Error() != r.want) {
					t.Errorf("it fails by %v, because of %v", err, context.Cause(ctx))
				}
				if took := time.Since(begin); took != r.wantAfter {
					t.Errorf("it took %v, want %v", took, r.wantAfter)
				}
				time.Sleep(2 * stallAfter) // nothing is left that would end the pull now
				if err == nil && ctx.Err() != nil {
					t.Errorf("it is given up afterwards: %v", context.Cause(ctx))
				}
			})
		})
	}
}

func readAll(ctx context.Context, client *http.Client, busy time.Duration) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://a.io/", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for {
		time.Sleep(busy)
		if _, err := resp.Body.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}
