package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// payload is one request as it goes over the wire, made before the clock runs.
type payload []byte

func post(host, path string, body []byte) payload {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", path, host, len(body))
	b.Write(body)
	return b.Bytes()
}

// round is the result of one round of requests.
type round struct {
	perSecond float64
	p50, p99  time.Duration
}

// fire sends count requests over that many connections, each of which waits for
// one answer before it sends the next request. Every answer must have status
// 200 and contain want.
func fire(ctx context.Context, addr string, payloads []payload, want []byte, count, connections int) (round, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	latencies := make([]time.Duration, count)
	var next atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now()
	for range connections {
		wg.Go(func() {
			if err := fireOne(ctx, addr, payloads, want, latencies, &next); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	if err := context.Cause(ctx); err != nil {
		return round{}, err
	}
	slices.Sort(latencies)
	return round{
		perSecond: float64(count) / took.Seconds(),
		p50:       latencies[count/2],
		p99:       latencies[count*99/100],
	}, nil
}

func fireOne(ctx context.Context, addr string, payloads []payload, want []byte, latencies []time.Duration, next *atomic.Int64) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	in := bufio.NewReader(conn)
	var body bytes.Buffer
	for {
		i := int(next.Add(1)) - 1
		if i >= len(latencies) {
			return nil
		}
		begin := time.Now()
		if _, err := conn.Write(payloads[i%len(payloads)]); err != nil {
			return fmt.Errorf("send a request: %w", err)
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return fmt.Errorf("read an answer: %w", err)
		}
		body.Reset()
		_, err = io.Copy(&body, resp.Body)
		resp.Body.Close()
		if err != nil {
			return fmt.Errorf("read an answer: %w", err)
		}
		latencies[i] = time.Since(begin)
		if resp.StatusCode != http.StatusOK || !bytes.Contains(body.Bytes(), want) {
			return fmt.Errorf("unexpected answer %d: %.300s", resp.StatusCode, body.Bytes())
		}
	}
}
