package bundles

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// bundleServer serves an archive as bundle servers do.
type bundleServer struct {
	mu       sync.Mutex
	archive  []byte
	noETag   bool
	long     bool // it knows long polling
	down     bool
	changed  chan struct{}
	requests []http.Header
	sent     atomic.Int64 // bytes
}

func newBundleServer(archive []byte) *bundleServer {
	return &bundleServer{archive: archive, changed: make(chan struct{})}
}

func (b *bundleServer) set(change func(*bundleServer)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(b)
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *bundleServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	b.requests = append(b.requests, r.Header.Clone())
	archive, down, long, changed := b.archive, b.down, b.long, b.changed
	b.mu.Unlock()
	if down {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	if long {
		w.Header().Set("Content-Type", mediaType)
	}
	holds := func() bool { return r.Header.Get("If-None-Match") == strconv.Quote(ArchiveDigest(archive)) }
	if long && holds() && strings.Contains(r.Header.Get("Prefer"), "wait=") {
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
		b.mu.Lock()
		archive = b.archive
		b.mu.Unlock()
	}
	if !b.noETag {
		w.Header().Set("ETag", strconv.Quote(ArchiveDigest(archive)))
	}
	if holds() {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	n, _ := w.Write(archive)
	b.sent.Add(int64(n))
}

// waitForRequests returns when n more requests have come.
func (b *bundleServer) waitForRequests(t testing.TB, n int) {
	t.Helper()
	n += len(b.headers(""))
	assert.Eventually(t, func() bool { return len(b.headers("")) >= n }, time.Minute, time.Millisecond)
}

func (b *bundleServer) headers(name string) (all []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range b.requests {
		all = append(all, h.Get(name))
	}
	return all
}

// urlTo is a source at a URL, which asks often.
func urlTo(t testing.TB, url string, edit ...func(*Options)) Source {
	t.Helper()
	o := Options{Source: url, Interval: 5 * time.Millisecond, URL: URLOptions{Timeout: 20 * time.Second}}
	for _, f := range edit {
		f(&o)
	}
	s, err := NewSource(o)
	require.NoError(t, err)
	return s
}

func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

// revised is a sound policy that is named for its revision.
func revised(t testing.TB, revision string) []byte {
	t.Helper()
	return packedFiles(t, lightFiles(t, map[string]string{".manifest": `{"roots": ["patrol"], "revision": "` + revision + `"}`}))
}

func TestURLIsFollowed(t *testing.T) {
	server := newBundleServer(revised(t, "v1"))
	s := urlTo(t, serve(t, server)+"/b?key=hidden", func(o *Options) { o.URL.Credential = "bearer-secret" })
	assert.NotContains(t, s.Name(), "hidden")
	b, err := s.Next(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "v1", b.Revision())
	assert.Equal(t, revised(t, "v1"), b.Archive)
	server.set(func(b *bundleServer) { b.archive = revised(t, "v2") })
	b, err = s.Next(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "v2", b.Revision())
	tags := server.headers("If-None-Match")
	assert.Empty(t, tags[0])
	assert.Equal(t, strconv.Quote(ArchiveDigest(revised(t, "v1"))), tags[len(tags)-1])
	for i, h := range server.headers("Authorization") {
		assert.Equal(t, "Bearer bearer-secret", h)
		assert.Equal(t, "modes=snapshot", server.headers("Prefer")[i])
	}
}

// TestURLWithoutETag holds that the same archive again is no news.
func TestURLWithoutETag(t *testing.T) {
	server := newBundleServer(revised(t, "v1"))
	server.noETag = true
	s := urlTo(t, serve(t, server))
	_, err := s.Next(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		server.waitForRequests(t, 4)
		cancel()
	}()
	_, err = s.Next(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

func TestURLLongPolling(t *testing.T) {
	server := newBundleServer(revised(t, "v1"))
	server.long = true
	s := urlTo(t, serve(t, server), func(o *Options) {
		o.Interval, o.URL.Wait = time.Hour, 30*time.Second // only long polling can be fast
	})
	_, err := s.Next(t.Context())
	require.NoError(t, err)
	for _, revision := range []string{"v2", "v3"} {
		heard := make(chan *Bundle, 1)
		go func() {
			b, err := s.Next(t.Context())
			assert.NoError(t, err)
			heard <- b
		}()
		// The answer is held back until there is something new.
		require.Eventually(t, func() bool {
			waits := server.headers("Prefer")
			return strings.HasSuffix(waits[len(waits)-1], ";wait=30") && len(waits) == int(revision[1]-'0')
		}, time.Minute, time.Millisecond)
		assert.Empty(t, heard)
		server.set(func(b *bundleServer) { b.archive = revised(t, revision) })
		b := <-heard
		require.NotNil(t, b)
		assert.Equal(t, revision, b.Revision())
	}
	assert.Equal(t, []string{"modes=snapshot", "modes=snapshot;wait=30", "modes=snapshot;wait=30"}, server.headers("Prefer"))

	// A server that says it knows long polling and does not wait is not asked without pause.
	busy := newBundleServer(revised(t, "v1"))
	s = urlTo(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Prefer")
		w.Header().Set("Content-Type", mediaType)
		busy.ServeHTTP(w, r)
	})), func(o *Options) { o.Interval, o.URL.Wait = time.Hour, 30*time.Second })
	_, err = s.Next(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	_, err = s.Next(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.LessOrEqual(t, len(busy.headers("Prefer")), 2)
}

// TestURLAfterAnOutage holds that a source is known to be back though it has nothing
// new.
func TestURLAfterAnOutage(t *testing.T) {
	own, err := Read(t.Context(), "", nil)
	require.NoError(t, err)
	server := newBundleServer(own.Archive)
	d, _ := begin(t, urlTo(t, serve(t, server)), GateConfig{})
	reached := func(want float64) func() bool {
		return func() bool {
			return testutil.ToFloat64(d.metrics.reached) == want && d.Status().Source.Reached == (want == 1)
		}
	}
	require.True(t, reached(1)())
	for range 2 {
		server.set(func(b *bundleServer) { b.down = true })
		require.Eventually(t, reached(0), time.Minute, time.Millisecond)
		assert.Contains(t, d.Status().Source.Error, "500 Internal Server Error")
		server.set(func(b *bundleServer) { b.down = false })
		require.Eventually(t, reached(1), time.Minute, time.Millisecond)
		assert.Empty(t, d.Status().Source.Error)
	}
	assert.EqualValues(t, len(own.Archive), server.sent.Load(), "it was transferred once")
}

// TestURLTooLarge holds that what is too large is reported once, and not transferred
// again and again.
func TestURLTooLarge(t *testing.T) {
	large := bytes.Repeat([]byte("x"), maxTotal+1<<20)
	for name, noETag := range map[string]bool{"with ETag": false, "without": true} {
		t.Run(name, func(t *testing.T) {
			server := newBundleServer(large)
			server.noETag = noETag
			s := urlTo(t, serve(t, server))
			_, err := s.Next(t.Context())
			var bad *BadBundleError
			require.ErrorAs(t, err, &bad)
			require.ErrorContains(t, err, "larger than 32 MiB")
			assert.Nil(t, bad.Archive, "it has no digest")
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				server.waitForRequests(t, 3)
				cancel()
			}()
			b, err := s.Next(ctx)
			require.ErrorIs(t, err, context.Canceled)
			assert.Nil(t, b)
			<-done
			if !noETag {
				assert.LessOrEqual(t, server.sent.Load(), int64(len(large)))
				assert.NotEmpty(t, server.headers("If-None-Match")[1])
			}
			// And what comes after it is taken.
			server.set(func(b *bundleServer) { b.archive = revised(t, "v2") })
			b, err = s.Next(t.Context())
			require.NoError(t, err)
			assert.Equal(t, "v2", b.Revision())
		})
	}
}

// endingContext ends at the nth time that it is looked at after it was armed.
type endingContext struct {
	context.Context
	armed *atomic.Bool
	left  *atomic.Int64
}

func (c endingContext) Err() error {
	if c.armed.Load() && c.left.Add(-1) < 0 {
		return context.DeadlineExceeded
	}
	return c.Context.Err()
}

// TestEndsInBetween ends the wait for a bundle at every point after it has been sent or
// changed, and holds that it is not lost: the next wait brings it.
func TestEndsInBetween(t *testing.T) {
	for name, open := range map[string]func(t *testing.T, armed *atomic.Bool) Source{
		"URL": func(t *testing.T, armed *atomic.Bool) Source {
			server := newBundleServer(revised(t, "v1"))
			return urlTo(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				server.ServeHTTP(w, r)
				armed.Store(true)
			})))
		},
		"archive": func(t *testing.T, armed *atomic.Bool) Source {
			file := filepath.Join(t.TempDir(), "policy.tar.gz")
			replace(t, file, revised(t, "v1"))
			armed.Store(true)
			s, err := NewSource(Options{Source: file, Interval: time.Millisecond})
			require.NoError(t, err)
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			for n := range int64(100) {
				var armed atomic.Bool
				left := new(atomic.Int64)
				left.Store(n)
				s := open(t, &armed)
				b, err := s.Next(endingContext{t.Context(), &armed, left})
				if err == nil {
					require.NotNil(t, b)
					require.Greater(t, n, int64(2), "it ended nowhere")
					return
				}
				require.ErrorIs(t, err, context.DeadlineExceeded)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				b, err = s.Next(ctx)
				cancel()
				require.NoError(t, err, "ended at look %d", n)
				require.NotNil(t, b, "ended at look %d", n)
			}
			require.Fail(t, "it never comes to an end")
		})
	}
}

func TestURLTrustsAuthorities(t *testing.T) {
	server := httptest.NewTLSServer(newBundleServer(revised(t, "v1")))
	t.Cleanup(server.Close)
	server.Config.ErrorLog = nil
	file := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	b, err := urlTo(t, server.URL, func(o *Options) { o.URL.CAFile = file }).Next(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "v1", b.Revision())

	_, err = urlTo(t, server.URL).Next(t.Context())
	require.ErrorContains(t, err, "certificate")

	other := filepath.Join(t.TempDir(), "other.pem")
	require.NoError(t, os.WriteFile(other, []byte("no certificate"), 0o600))
	for _, path := range []string{other, filepath.Join(t.TempDir(), "missing")} {
		_, err = NewSource(Options{Source: server.URL, Interval: time.Second, URL: URLOptions{Timeout: time.Second, CAFile: path}})
		require.ErrorContains(t, err, path)
	}
}

// TestURLTransfers is about servers that are slow, or that send something else.
func TestURLTransfers(t *testing.T) {
	archive := revised(t, "v1")
	elsewhere := newBundleServer(archive)
	elsewhereURL := serve(t, elsewhere)
	for name, c := range map[string]struct {
		serve   http.HandlerFunc
		timeout time.Duration
		says    string // "" if it is taken
	}{
		"in small parts, in time": {serve: func(w http.ResponseWriter, _ *http.Request) {
			for part := range len(archive)/1000 + 1 {
				_, _ = w.Write(archive[part*1000 : min(len(archive), part*1000+1000)])
				w.(http.Flusher).Flush()
			}
		}},
		"a byte now and then": {serve: func(w http.ResponseWriter, r *http.Request) {
			for i := range archive {
				_, _ = w.Write(archive[i : i+1])
				w.(http.Flusher).Flush()
				select {
				case <-r.Context().Done():
					return
				case <-time.After(5 * time.Millisecond):
				}
			}
		}, timeout: 200 * time.Millisecond, says: "it was not transferred within 200ms"},
		"no answer": {serve: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, timeout: 100 * time.Millisecond, says: "timeout"},
		"cut short": {serve: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(len(archive)))
			_, _ = w.Write(archive[:1000])
		}, says: "unexpected EOF"},
		"empty":                       {serve: func(http.ResponseWriter, *http.Request) {}, says: "its answer is empty"},
		"not found":                   {serve: http.NotFound, says: "it answers 404 Not Found"},
		"not modified, to begin with": {serve: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }, says: "it answers 304 Not Modified"},
		"a page":                      {serve: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>Sign in")) }, says: "not a gzipped tar archive"},
		"redirected":                  {serve: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhereURL, http.StatusFound) }},
		"redirected to another host": {serve: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, strings.Replace(elsewhereURL, "127.0.0.1", "localhost", 1), http.StatusFound)
		}},
		"redirected for ever": {serve: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/again", http.StatusFound) }, says: "it redirects more than five times"},
		"redirected to where anybody listens": {
			serve: func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://policy.example/b", http.StatusFound)
			},
			says: "it redirects to where no policy may come from: it must begin with https://",
		},
	} {
		t.Run(name, func(t *testing.T) {
			elsewhere.set(func(b *bundleServer) { b.requests = nil })
			s := urlTo(t, serve(t, c.serve)+"/b?key=hidden", func(o *Options) {
				o.URL.Credential = "bearer-secret"
				if c.timeout > 0 {
					o.URL.Timeout = c.timeout
				}
			})
			b, err := s.Next(t.Context())
			if c.says != "" {
				require.ErrorContains(t, err, c.says)
				assert.NotContains(t, err.Error(), "hidden")
				assert.NotContains(t, err.Error(), "secret")
				return
			}
			require.NoError(t, err)
			assert.Equal(t, "v1", b.Revision())
			for _, sent := range elsewhere.headers("Authorization") {
				if strings.HasSuffix(name, "another host") {
					assert.Empty(t, sent, "the credential is this server's")
				}
			}
		})
	}
}

func TestURLs(t *testing.T) {
	for url, says := range map[string]string{
		"https://policy.example/b":         "",
		"https://policy.example/b?x=1":     "",
		"http://127.0.0.1:8080/b":          "",
		"http://[::1]/b":                   "",
		"http://localhost/b":               "",
		"http://policy.example/b":          "anybody on the way",
		"http://127.0.0.1.example/b":       "anybody on the way",
		"https://user:pass@policy.example": "user name or password",
		"https://policy.example/b#x":       "must not have a #",
		"ftp://policy.example/b":           "must begin with https://",
		"https:///b":                       "not a URL",
		"https://%zz":                      "not a URL",
	} {
		err := CheckURL(url)
		if says == "" {
			assert.NoError(t, err, url)
			continue
		}
		require.ErrorContains(t, err, says, url)
		assert.NotContains(t, err.Error(), "pass@")
	}
	for i, o := range []Options{
		{Interval: 0, URL: URLOptions{Timeout: 1}}, {Interval: 1}, {Interval: 1, URL: URLOptions{Timeout: 1, Wait: -1}},
	} {
		o.Source = "https://policy.example"
		_, err := NewSource(o)
		assert.Error(t, err, fmt.Sprint(i))
	}
}
