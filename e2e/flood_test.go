package e2e_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
	"patrol/server/identity"
)

// flood is noise that somebody makes to silence or stall a server. While it lasts,
// people with valid tokens and right passwords must be served; see TestFloods.
type flood struct {
	name string
	// databases are the databases for it besides SQLite: true for floods that reach the
	// database.
	postgres bool
	// settings are the server's settings besides the defaults, as name=value. Floods with
	// the same share a server.
	settings []string
	// make makes the noise until ctx ends. Errors of its own connections are what it is
	// made of.
	make func(ctx context.Context, b *floodBench)
	// growth bounds the memory that it may cost, in bytes; 0: floodGrowth.
	growth int64
	// check looks at what else must hold, after the noise; nil: nothing.
	check func(t *testing.T, b *floodBench)
}

// floods are the noises, of which each belongs to a row of docs/threat-model.md.
var floods = []flood{
	{name: "unknown tokens", postgres: true, make: floodUnknownTokens},
	{name: "bodies that are declared and not sent, with a revoked token", make: declaredBodies("revoked", "/proxy/acme/v1/chat/completions", 1<<20)},
	{name: "bodies that are declared and not sent, with a good token", make: declaredBodies("everything", "/proxy/acme/v1/chat/completions", 1<<20)},
	{name: "messages that are declared and not sent, over gRPC", make: floodMessages},
	{name: "bodies that are declared and not sent, to the API", make: declaredBodies("", "/authorize", 60<<10)},
	{name: "no token on every surface", postgres: true, make: floodEverySurface, check: checkNoiseIsCounted},
	{name: "no token, records required", postgres: true, settings: logSettings, make: floodEverySurface, check: checkNoiseIsCounted},
	{name: "a valid token, records required", postgres: true, settings: logSettings, make: floodWithAToken, growth: 3 * floodGrowth},
}

const (
	// Growth bounds the memory that a flood may cost.
	floodGrowth = 100 << 20
	// signInWithin is the time that 99 of 100 people wait for their session.
	signInWithin = 2 * time.Second
)

// floodTime is the time that each noise lasts.
func floodTime() time.Duration {
	if testenv.Long() {
		return 30 * time.Second
	}
	return 3 * time.Second
}

// TestFloods runs the built program with its default settings, and beside each flood
// people who ask on every surface, from the same address. All of them are answered
// with what is right, every decision of theirs is in the log, and the memory of the
// process stays within bounds.
func TestFloods(t *testing.T) {
	binary := buildProgram(t)
	for _, database := range []struct {
		name string
		url  func(testing.TB) string
		runs func(flood) bool
	}{
		{"sqlite", testenv.SQLite, func(flood) bool { return true }},
		{"postgres", testenv.Postgres, func(f flood) bool { return f.postgres }},
	} {
		t.Run(database.name, func(t *testing.T) {
			var settings []string // in the order of their first flood
			groups := map[string][]flood{}
			for _, f := range slices.Concat(floods, signInFloods) {
				if !database.runs(f) {
					continue
				}
				key := strings.Join(f.settings, "\n")
				if groups[key] == nil {
					settings = append(settings, key)
				}
				groups[key] = append(groups[key], f)
			}
			for i, key := range settings {
				t.Run(strconv.Itoa(i), func(t *testing.T) {
					b := openFloodBench(t, binary, database.url(t), strings.Fields(key))
					b.warm(t)
					for _, f := range groups[key] {
						t.Run(f.name, func(t *testing.T) { b.run(t, f) })
					}
				})
			}
		})
	}
}

// floodBench is a server under noise.
type floodBench struct {
	*patrol   // the people and tokens; nothing of it runs but the database
	running   // the program under noise
	decisions *store.Decisions
	client    *http.Client // keeps its connections
	check     authv3.AuthorizationClient
	floods    int
	seen      noiseSeen // by floods without a token
}

// floodPassword is everybody's.
const floodPassword = "a flood of horses, none correct"

func openFloodBench(t *testing.T, binary, database string, settings []string) *floodBench {
	t.Helper()
	up := httptestUpstream(t)
	b := &floodBench{patrol: openWorld(t, database)}
	hash, err := identity.HashPassword(floodPassword)
	require.NoError(t, err)
	for i := range 4 {
		_, err := b.store.CreateUser(t.Context(), models.Actor{Kind: models.ActorSystem},
			models.User{Email: fmt.Sprintf("honest-%d@example.com", i), Name: "Honest", PasswordHash: hash})
		require.NoError(t, err)
	}
	b.running = startProgram(t, binary, database, append([]string{"PATROL_UPSTREAM=" + up}, settings...)...)
	b.decisions, err = store.OpenDecisions(t.Context(), store.Config{URL: store.DecisionsURL(database)}, false)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.decisions.Close()) })
	b.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: patience}
	t.Cleanup(b.client.CloseIdleConnections)
	conn, err := grpc.NewClient(b.running.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	b.check = authv3.NewAuthorizationClient(conn)
	return b
}

// httptestUpstream answers everything and remembers nothing.
func httptestUpstream(t *testing.T) (url string) {
	t.Helper()
	return "http://" + serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"object":"upstream"}`)
	}))
}

// warm has the program allocate as much as it does between two collections of
// garbage, so that what a flood adds can be told from that.
func (b *floodBench) warm(t *testing.T) {
	t.Helper()
	item := `{"domain":"acme","entity_type":"models","entity":"llama3","operation":"read"}`
	body := `{"token":"` + b.tokens["reader"] + `","requests":[` + strings.Repeat(item+",", 99) + item + `]}`
	collected := b.collections(t)
	require.Eventually(t, func() bool {
		for range 20 {
			status, _ := b.post(t, "/authorize/batch", body)
			require.Equal(t, http.StatusOK, status)
		}
		return b.collections(t) >= collected+2
	}, 2*time.Minute, time.Millisecond)
}

// collections counts the program's garbage collections.
func (b *floodBench) collections(t *testing.T) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+b.running.http+"/metrics", nil)
	require.NoError(t, err)
	res, err := b.client.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "go_gc_duration_seconds_count "); ok {
			n, err := strconv.ParseFloat(value, 64)
			require.NoError(t, err)
			return int(n)
		}
	}
	require.Fail(t, "the program does not count its collections")
	return 0
}

func (b *floodBench) post(t *testing.T, path, body string) (status int, answer []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+b.running.http+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	res, err := b.client.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	answer, err = io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, answer
}

// resident returns the memory that the program holds.
func (b *floodBench) resident() (bytes int64, err error) {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(b.cmd.Process.Pid) + "/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("the system does not say how much memory a process holds")
}

// run makes one noise, with honest people beside it.
func (b *floodBench) run(t *testing.T, f flood) {
	b.floods++
	before, err := b.resident()
	require.NoError(t, err)
	ctx, stop := context.WithTimeout(t.Context(), floodTime())
	defer stop()
	var noise sync.WaitGroup
	noise.Go(func() { f.make(ctx, b) })
	noise.Go(func() { <-ctx.Done() })

	asking := b.honest(t)
	var most atomic.Int64
	var beside sync.WaitGroup
	beside.Go(func() {
		for range ticks(ctx, 20*time.Millisecond) {
			if now, err := b.resident(); err == nil && now > most.Load() {
				most.Store(now)
			}
		}
	})
	for _, h := range asking {
		beside.Go(func() {
			for range ticks(ctx, h.every) {
				begin := time.Now()
				err := h.ask() // without ctx: what was begun must be answered
				h.done(time.Since(begin), err)
			}
		})
	}
	beside.Wait()
	noise.Wait()

	for _, h := range asking {
		h.report(t)
		if h.token == "" {
			continue
		}
		require.Eventually(t, func() bool { return b.recorded(t, h.token) >= h.asked }, patience, patience/200,
			"%s: %d decisions were given, %d are in the log", h.name, h.asked, b.recorded(t, h.token))
	}
	grown := most.Load() - before
	t.Logf("memory: %d MiB before, %+d MiB at most", before>>20, grown>>20)
	assert.Less(t, grown, cmp.Or(f.growth, floodGrowth), "bytes of memory")
	if f.check != nil {
		f.check(t, b)
	}
}

// ticks yields every so often until ctx ends.
func ticks(ctx context.Context, every time.Duration) func(func(struct{}) bool) {
	return func(yield func(struct{}) bool) {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for yield(struct{}{}) {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	}
}

// recorded counts the allowances of a token in the decision log.
func (b *floodBench) recorded(t *testing.T, tokenID string) (n int) {
	t.Helper()
	err := b.decisions.Each(t.Context(), store.DecisionFilter{TokenID: tokenID, Outcome: models.OutcomeAllow},
		func(models.LoggedDecision) error { n++; return nil })
	require.NoError(t, err)
	return n
}

// honest is somebody who asks for what they may have, over and over.
type honest struct {
	name   string
	every  time.Duration
	within time.Duration // 99 of 100 answers; 0: any time
	token  string        // whose decisions must be in the log; "": none
	ask    func() error

	asked int
	took  []time.Duration
	wrong []string
}

func (h *honest) done(took time.Duration, err error) {
	h.took = append(h.took, took)
	if h.asked++; err != nil {
		h.wrong = append(h.wrong, err.Error())
	}
}

func (h *honest) report(t *testing.T) {
	t.Helper()
	require.NotZero(t, h.asked, h.name)
	slices.Sort(h.took)
	at := func(share float64) time.Duration { return h.took[int(math.Ceil(share*float64(len(h.took))))-1] }
	t.Logf("%s: %d asked, p50 %s, p99 %s", h.name, h.asked, at(0.5).Round(time.Microsecond), at(0.99).Round(time.Microsecond))
	assert.Empty(t, h.wrong, "%s: %d of %d", h.name, len(h.wrong), h.asked)
	if h.within > 0 {
		assert.LessOrEqual(t, at(0.99), h.within, "%s: the 99th percentile", h.name)
	}
}

// honest returns the people beside a flood, each with a token of their own.
func (b *floodBench) honest(t *testing.T) []*honest {
	t.Helper()
	mint := func(surface string) (header, id string) {
		text, pat := b.mint(t, "member", fmt.Sprintf("honest %d %s", b.floods, surface), "acme:models:*:read", "acme:models:*:execute")
		return "Bearer " + text, pat.ID
	}
	const every = 20 * time.Millisecond
	var all []*honest
	add := func(name string, ask func(header string) error) {
		header, id := mint(name)
		all = append(all, &honest{name: name, every: every, token: id, ask: func() error { return ask(header) }})
	}
	anew := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	for name, client := range map[string]*http.Client{"authorize": b.client, "authorize, a new connection each time": anew} {
		add(name, func(header string) error {
			return b.send(client, http.MethodPost, "/authorize", header,
				`{"domain":"acme","entity_type":"models","entity":"llama3","operation":"read"}`, `"allowed":true`)
		})
	}
	add("gateway", func(header string) error {
		return b.send(b.client, http.MethodGet, "/proxy/acme/v1/models", header, "", `"upstream"`)
	})
	add("gateway with a body", func(header string) error {
		return b.send(b.client, http.MethodPost, "/proxy/acme/v1/chat/completions", header, `{"model":"llama3","messages":[]}`, `"upstream"`)
	})
	add("grpc", func(header string) error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		res, err := b.check.Check(ctx, checkRequest(http.MethodPost, "/proxy/acme/v1/chat/completions", []string{"Authorization: " + header}, `{"model":"llama3"}`))
		if err == nil && res.GetOkResponse() == nil {
			err = fmt.Errorf("denied: %v", res.GetDeniedResponse().GetBody())
		}
		return err
	})
	add("forward-auth", func(header string) error {
		return b.send(b.client, http.MethodGet, "/forward-auth/proxy/acme/v1/models", header, "", "")
	})
	turn := 0
	return append(all, &honest{name: "sign-in", every: time.Second / 2, within: signInWithin, ask: func() error {
		turn++
		body, err := json.Marshal(map[string]string{
			"email": fmt.Sprintf("honest-%d@example.com", turn%4), "password": floodPassword, "transport": "bearer",
		})
		if err != nil {
			return err
		}
		return b.send(anew, http.MethodPost, "/api/v1/session", "", string(body), "session_token")
	}})
}

// send asks, and returns an error unless the answer is a success that contains want.
func (b *floodBench) send(client *http.Client, method, path, authorization, body, want string) error {
	req, err := http.NewRequestWithContext(context.Background(), method, "http://"+b.running.http+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return err
	case res.StatusCode >= 300 || !bytes.Contains(answer, []byte(want)):
		return fmt.Errorf("%s: %s", res.Status, answer)
	}
	return nil
}

// crowd does something over and over, in so many places at a time, until ctx ends.
func crowd(ctx context.Context, n int, do func(ctx context.Context, worker int)) {
	var all sync.WaitGroup
	for worker := range n {
		all.Go(func() {
			for ctx.Err() == nil {
				do(ctx, worker)
			}
		})
	}
	all.Wait()
}

// dial connects to addr, and has the connection closed when ctx ends. It returns nil
// if it cannot; what keeps a flood out is no failure.
func dial(ctx context.Context, addr string) net.Conn {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	return conn
}

// declaredBodies returns a flood of 1,000 connections that announce a body of size
// bytes, send its first one, and wait. Whoever is hung up on comes again.
func declaredBodies(token, target string, size int) func(context.Context, *floodBench) {
	return func(ctx context.Context, b *floodBench) {
		head := "POST " + target + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(size) + "\r\n"
		if token != "" {
			head += "Authorization: Bearer " + b.tokens[token] + "\r\n"
		}
		again := time.NewTicker(2 * time.Millisecond)
		defer again.Stop()
		crowd(ctx, 1000, func(ctx context.Context, _ int) {
			select {
			case <-again.C:
			case <-ctx.Done():
				return
			}
			conn := dial(ctx, b.running.http)
			if conn == nil {
				return
			}
			defer func() { _ = conn.Close() }()
			_, _ = io.WriteString(conn, head+"\r\n{")
			_, _ = io.Copy(io.Discard, conn)
		})
	}
}

// floodMessages opens calls of the gRPC service, many on each of many connections,
// that announce the largest message there can be and send a little of it.
func floodMessages(ctx context.Context, b *floodBench) {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range [][2]string{
		{":method", "POST"},
		{":scheme", "http"},
		{":path", authv3.Authorization_Check_FullMethodName},
		{":authority", "x"},
		{"content-type", "application/grpc"},
		{"te", "trailers"},
	} {
		_ = encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // a buffer takes it
	}
	message := append([]byte{0, 1, 0x10, 0, 0}, bytes.Repeat([]byte("x"), 15<<10)...) // of 17 MiB
	crowd(ctx, 32, func(ctx context.Context, _ int) {
		conn := dial(ctx, b.running.grpc)
		if conn == nil {
			return
		}
		defer func() { _ = conn.Close() }()
		go func() { _, _ = io.Copy(io.Discard, conn) }()
		_, _ = io.WriteString(conn, http2.ClientPreface)
		framer := http2.NewFramer(conn, nil)
		_ = framer.WriteSettings()
		pace := time.NewTicker(10 * time.Millisecond)
		defer pace.Stop()
		for stream := uint32(1); stream < 10_000; stream += 2 {
			err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true})
			if err != nil || framer.WriteData(stream, false, message) != nil || framer.WriteData(stream, false, message) != nil {
				return
			}
			select {
			case <-pace.C:
			case <-ctx.Done():
				return
			}
		}
	})
}

// floodUnknownTokens asks with tokens whose checksum is right and that nobody was
// given.
func floodUnknownTokens(ctx context.Context, b *floodBench) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: patience}
	defer client.CloseIdleConnections()
	crowd(ctx, 32, func(ctx context.Context, _ int) {
		token, err := models.Mint(rand.Reader)
		if err != nil {
			panic(err) // the system has no randomness
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+b.running.http+"/authorize",
			strings.NewReader(`{"domain":"acme","entity_type":"models","entity":"llama3","operation":"read"}`))
		if err != nil {
			panic(err) // the request is ours
		}
		req.Header.Set("Authorization", "Bearer "+token.Reveal())
		if res, err := client.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
	})
}
