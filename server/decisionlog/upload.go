package decisionlog

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
)

// uploader posts batches of events to an HTTP endpoint in the form that OPA's
// decision log has: a JSON array, gzipped. It belongs to one goroutine.
type uploader struct {
	cfg    EndpointConfig
	client *http.Client
	labels []byte
	// sent counts the events of the last batch that have arrived, so that they are not
	// sent again.
	last *batch
	sent int
}

func (u *uploader) write(ctx context.Context, b *batch) error {
	if u.last != b {
		u.last, u.sent = b, 0
	}
	var body []byte
	for all := len(b.decisions) + len(b.sums); u.sent < all; {
		body = append(body[:0], '[')
		n := u.sent
		for ; n < all; n++ {
			before := len(body)
			if n > u.sent {
				body = append(body, ',')
			}
			if n < len(b.decisions) {
				body = b.decisions[n].AppendEvent(body, u.labels)
			} else {
				body = b.sums[n-len(b.decisions)].AppendEvent(body, u.labels)
			}
			if len(body) >= u.cfg.BatchSize && n > u.sent {
				body = body[:before]
				break
			}
		}
		if err := u.post(ctx, append(body, ']')); err != nil {
			return err
		}
		u.sent = n
	}
	u.last = nil
	return nil
}

func (u *uploader) post(ctx context.Context, events []byte) error {
	ctx, cancel := context.WithTimeout(ctx, u.cfg.Timeout)
	defer cancel()
	var body bytes.Buffer
	zip, err := gzip.NewWriterLevel(&body, gzip.BestSpeed)
	if err != nil {
		return err
	}
	if _, err := zip.Write(events); err != nil {
		return err
	}
	if err := zip.Close(); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.cfg.URL, &body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Content-Encoding", "gzip")
	if u.cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+u.cfg.Token)
	}
	resp, err := u.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	const enough = 64 << 10 // for the connection to be used again
	_, _ = io.CopyN(io.Discard, resp.Body, enough)
	switch status := resp.StatusCode; {
	case status < 300:
		return nil
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= 500,
		status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusNotFound:
		// It may get better, or be put right by somebody.
		return fmt.Errorf("the endpoint answers %s", resp.Status)
	default:
		return fmt.Errorf("%w: the endpoint answers %s", errRefused, resp.Status)
	}
}
