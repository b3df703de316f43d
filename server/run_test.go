package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
	"patrol/server"
)

// run serves until the test ends, or stop is called, which returns what Serve
// returned.
func (w *world) run() (base string, stop func() error) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	require.NoError(w.t, w.server.Listen(ctx))
	served := make(chan error, 1)
	go func() { served <- w.server.Serve(ctx) }()
	var result error
	done := false
	stop = func() error {
		cancel()
		if !done {
			result, done = <-served, true
		}
		return result
	}
	w.t.Cleanup(func() { assert.NoError(w.t, stop()) })
	return w.server.BaseURL(), stop
}

func TestRunOnPortZero(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), func(c *server.Config, _ *server.Deps) {
		c.Listen, c.MetricsListen = "127.0.0.1:0", "127.0.0.1:0"
	})
	base, stop := w.run()
	var line struct{ Msg, HTTP, Metrics, URL string }
	for text := range strings.SplitSeq(w.logs.String(), "\n") {
		if strings.Contains(text, `"msg":"listening"`) {
			require.NoError(t, json.Unmarshal([]byte(text), &line))
		}
	}
	assert.Equal(t, w.server.Addr(), line.HTTP)
	assert.Equal(t, w.server.MetricsAddr(), line.Metrics)
	assert.Equal(t, base, line.URL)
	assert.NotContains(t, line.HTTP, ":0\"")

	for url, status := range map[string]int{
		base + "/healthz":                     200,
		base + "/metrics":                     404,
		"http://" + line.Metrics + "/metrics": 200,
		"http://" + line.Metrics + "/healthz": 404,
	} {
		resp, err := http.Get(url)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, status, resp.StatusCode, url)
	}
	require.NoError(t, stop())
	assert.Contains(t, w.logs.String(), "shutting down")
}

func TestListenFails(t *testing.T) {
	taken := newWorld(t, testenv.SQLite(t), nil).http.Listener.Addr().String()
	for _, change := range []func(c *server.Config){
		func(c *server.Config) { c.Listen = taken },
		func(c *server.Config) { c.Listen, c.MetricsListen = "127.0.0.1:0", taken },
		func(c *server.Config) {
			c.Listen, c.TLS.CertFile, c.TLS.KeyFile = "127.0.0.1:0", "/no/such/cert", "/no/such/key"
		},
	} {
		w := newWorld(t, testenv.SQLite(t), func(c *server.Config, _ *server.Deps) { change(c) })
		require.Error(t, w.server.Run(t.Context()))
	}
}

func TestShutdownFinishesWhatIsInFlight(t *testing.T) {
	entered, finish := make(chan struct{}), make(chan struct{})
	w := newWorld(t, testenv.SQLite(t), func(c *server.Config, d *server.Deps) {
		c.Listen = "127.0.0.1:0"
		d.Gateway = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(entered)
			<-finish
			_, _ = io.WriteString(w, fmt.Sprintf("finished %v", r.Context().Err()))
		})
	})
	base, stop := w.run()
	got := make(chan string, 1)
	go func() {
		resp, err := http.Get(base + "/proxy/acme/slow")
		if err != nil {
			got <- err.Error()
			return
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		got <- fmt.Sprint(string(body), " ", err)
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	require.Eventually(t, func() bool { return w.as("").get("/readyz").status == 503 }, soon, soon/100, "it says that it is going")
	require.Eventually(t, func() bool {
		resp, err := http.Get(base + "/healthz")
		if err == nil {
			_ = resp.Body.Close()
		}
		return err != nil
	}, soon, soon/100, "it takes nothing new")
	close(finish)
	assert.Equal(t, "finished <nil> <nil>", <-got)
	require.NoError(t, <-stopped)
}

// TestTheEndIsAnnouncedFirst holds that everything is answered until whoever is
// connected has had the time to notice, and that nobody is waited for who is not.
func TestTheEndIsAnnouncedFirst(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), func(c *server.Config, _ *server.Deps) {
		c.Listen, c.HTTP.DrainDelay = "127.0.0.1:0", time.Hour
	})
	base, stop := w.run()
	transport := &http.Transport{}
	client := &http.Client{Transport: transport}
	get := func(path string) *http.Response {
		t.Helper()
		resp, err := client.Get(base + path)
		require.NoError(t, err)
		_, _ = io.Copy(io.Discard, resp.Body)
		require.NoError(t, resp.Body.Close())
		return resp
	}
	const followServing = "/readyz?exclude=database&exclude=decisions"
	assert.Equal(t, 200, get(followServing).StatusCode)
	assert.False(t, get("/healthz").Close)
	held, err := net.Dial("tcp", w.server.Addr())
	require.NoError(t, err)
	defer func() { _ = held.Close() }()
	_, err = io.WriteString(held, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	_, err = held.Read(make([]byte, 1)) // it is open for the server as well
	require.NoError(t, err)

	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	require.Eventually(t, func() bool { return get(followServing).StatusCode == http.StatusServiceUnavailable }, soon, soon/100)
	for range 3 {
		resp := get("/healthz")
		assert.Equal(t, 200, resp.StatusCode)
		assert.True(t, resp.Close, "the next request may go elsewhere")
	}
	select {
	case err := <-stopped:
		t.Fatalf("it ended with somebody connected: %v", err)
	default:
	}
	require.NoError(t, held.Close())
	transport.CloseIdleConnections()
	require.NoError(t, <-stopped)
}

func TestReadyExcludesWhatItKnows(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), nil)
	require.NoError(t, w.store.Close())
	for query, status := range map[string]int{
		"": 503, "?exclude=decisions": 503, "?exclude=serving": 503, "?exclude=decisions&exclude=database": 200, "?exclude=revocations": 503,
		"?exclude=decision": 422, "?exclude=": 422, "?exclude=database&exclude=database": 422, "?exclude=database&exclude=revocations&exclude=decisions": 200,
	} {
		assert.Equal(t, status, w.as("").get("/readyz"+query).status, query)
	}
}

func TestShutdownCutsWhatDoesNotEnd(t *testing.T) {
	entered, ended := make(chan struct{}), make(chan struct{})
	w := newWorld(t, testenv.SQLite(t), func(c *server.Config, d *server.Deps) {
		c.Listen, c.HTTP.ShutdownTimeout = "127.0.0.1:0", 50*time.Millisecond
		d.Gateway = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			defer close(ended)
			close(entered)
			<-r.Context().Done()
		})
	})
	base, stop := w.run()
	go func() {
		if resp, err := http.Get(base + "/proxy/acme/forever"); err == nil {
			_ = resp.Body.Close()
		}
	}()
	<-entered
	require.NoError(t, stop())
	<-ended
	assert.Contains(t, w.logs.String(), "requests were cut")
}

func TestTimeoutsSpareStreams(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), func(c *server.Config, d *server.Deps) {
		c.Listen, c.HTTP.ReadTimeout, c.HTTP.WriteTimeout = "127.0.0.1:0", 100*time.Millisecond, 250*time.Millisecond
		d.Gateway = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			control := http.NewResponseController(w) // as the real one does
			assert.NoError(t, control.SetReadDeadline(time.Time{}))
			assert.NoError(t, control.SetWriteDeadline(time.Time{}))
			for range 5 {
				select {
				case <-r.Context().Done():
					return
				case <-time.After(80 * time.Millisecond):
				}
				_, _ = io.WriteString(w, "tick ")
				_ = http.NewResponseController(w).Flush()
			}
		})
	})
	base, _ := w.run()
	for range 2 { // on one connection, and after a request that has timeouts
		resp, err := http.Get(base + "/healthz")
		require.NoError(t, err)
		_, _ = io.Copy(io.Discard, resp.Body)
		require.NoError(t, resp.Body.Close())
		resp, err = http.Get(base + "/proxy/acme/stream")
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, strings.Repeat("tick ", 5), string(body))
	}
}

// A body that does not come is given up, wherever it was announced.
func TestBodiesThatDoNotComeAreGivenUp(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t), func(c *server.Config, d *server.Deps) {
		withServeCredential(c, d)
		c.Listen, c.MetricsListen, c.HTTP.ReadTimeout = "127.0.0.1:0", "127.0.0.1:0", 100*time.Millisecond
		mount := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
		d.Gateway, d.ForwardAuth = mount, mount // which set no deadlines
	})
	w.run()
	_, digest, _ := w.policy.Archive()
	for _, c := range []struct{ at, head, want string }{
		{w.server.Addr(), "POST /authorize HTTP/1.1", "400 Bad Request"},
		{w.server.Addr(), "POST /api/v1/login HTTP/1.1", "4"},
		{w.server.Addr(), "GET /healthz HTTP/1.1", "422 Unprocessable Entity"},
		{w.server.Addr(), "GET /sign-in HTTP/1.1", ""},
		{w.server.Addr(), "POST /proxy/acme/x HTTP/1.1", "204 No Content"},
		{w.server.Addr(), "POST /forward-auth/x HTTP/1.1", "204 No Content"},
		{w.server.Addr(), "GET /no/such HTTP/1.1", "404 Not Found"},
		{
			w.server.Addr(), "GET " + bundlePath + " HTTP/1.1\r\nPrefer: wait=60\r\nIf-None-Match: \"" + digest + "\"\r\nAuthorization: Bearer " + serveCredential,
			"422 Unprocessable Entity",
		},
		{w.server.MetricsAddr(), "GET /metrics HTTP/1.1", "200 OK"},
		{w.server.MetricsAddr(), "POST /other HTTP/1.1", "404 Not Found"},
	} {
		for _, body := range []string{"Content-Length: 100\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n5\r\n{"} {
			t.Run(c.head[:12], func(t *testing.T) {
				conn, err := net.Dial("tcp", c.at)
				require.NoError(t, err)
				t.Cleanup(func() { _ = conn.Close() })
				_, err = io.WriteString(conn, c.head+"\r\nHost: x\r\n"+body)
				require.NoError(t, err)
				require.NoError(t, conn.SetReadDeadline(time.Now().Add(soon)))
				answer, err := io.ReadAll(conn)
				require.NoError(t, err, "the server closed the connection")
				assert.Contains(t, string(answer), "HTTP/1.1 "+c.want)
			})
		}
	}
}

// writeCertificate writes a certificate for localhost and returns it.
func writeCertificate(t *testing.T, dir string, serial int64) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: keyDER}} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600))
	}
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert
}

func TestTLSAndReload(t *testing.T) {
	dir := t.TempDir()
	writeCertificate(t, dir, 1)
	w := newWorld(t, testenv.SQLite(t), func(c *server.Config, _ *server.Deps) {
		c.Listen = "127.0.0.1:0"
		c.TLS = server.TLSConfig{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"), ReloadInterval: 10 * time.Millisecond}
	})
	base, _ := w.run()
	require.True(t, strings.HasPrefix(base, "https://"))
	connect := func(version uint16) (*http.Response, error) {
		client := &http.Client{Transport: &http.Transport{
			DisableKeepAlives: true, ForceAttemptHTTP2: true,
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MaxVersion: version},
		}}
		resp, err := client.Get(base + "/healthz")
		if err == nil {
			err = resp.Body.Close()
		}
		return resp, err
	}
	serial := func() int64 {
		resp, err := connect(0)
		require.NoError(t, err)
		assert.Equal(t, "HTTP/2.0", resp.Proto)
		return resp.TLS.PeerCertificates[0].SerialNumber.Int64()
	}
	assert.EqualValues(t, 1, serial())
	_, err := connect(tls.VersionTLS11)
	require.Error(t, err)
	_, err = connect(tls.VersionTLS12)
	require.NoError(t, err)
	_, err = (&http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
		InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA},
	}}}).Get(base + "/healthz")
	require.ErrorContains(t, err, "handshake failure", "CBC is not offered")

	require.NoError(t, os.WriteFile(filepath.Join(dir, "cert.pem"), []byte("half of a certifica"), 0o600))
	require.Eventually(t, func() bool { return strings.Contains(w.logs.String(), "could not be read again") }, soon, soon/1000)
	assert.EqualValues(t, 1, serial(), "the old one stays")
	writeCertificate(t, dir, 2)
	require.Eventually(t, func() bool { return serial() == 2 }, soon, soon/1000)
}
