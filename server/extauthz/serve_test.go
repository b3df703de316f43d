package extauthz_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"patrol/internal/authztest"
	"patrol/server/extauthz"
)

// authority signs certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	var a authority
	a.key, a.cert, a.pem = certificate(t, nil, "authority")
	return a
}

// certificate makes a certificate signed by a, or by itself.
func certificate(t *testing.T, a *authority, name string) (*ecdsa.PrivateKey, *x509.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: a == nil,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := template, key
	if a != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return key, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// pair writes a new certificate of a into dir and returns it.
func (a authority) pair(t *testing.T, dir, name string) tls.Certificate {
	t.Helper()
	key, _, cert := certificate(t, &a, name)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cert.pem"), cert, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "key.pem"), keyPEM, 0o600))
	pair, err := tls.X509KeyPair(cert, keyPEM)
	require.NoError(t, err)
	return pair
}

// shake makes one TLS connection and returns the server's certificate. A server
// that wants a certificate refuses a client without only after the handshake.
func shake(t *testing.T, addr string, cfg *tls.Config) (*x509.Certificate, error) {
	t.Helper()
	cfg.NextProtos = []string{"h2"}
	dialer := tls.Dialer{Config: cfg}
	conn, err := dialer.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil { // the server speaks first in HTTP/2
		return nil, err
	}
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}

func TestTLSAndItsReload(t *testing.T) {
	dir, clients := t.TempDir(), t.TempDir()
	first, second := newAuthority(t), newAuthority(t)
	first.pair(t, dir, "patrol")
	caFile := filepath.Join(dir, "ca.pem")
	require.NoError(t, os.WriteFile(caFile, first.pem, 0o600))
	mine, theirs := first.pair(t, clients, "envoy"), second.pair(t, clients, "envoy")
	b := start(t, func(c *extauthz.Config) {
		c.TLS = extauthz.TLSConfig{
			CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"), ClientCAFile: caFile, ReloadInterval: time.Millisecond,
		}
	})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(first.pem)
	roots.AppendCertsFromPEM(second.pem)
	with := func(certs ...tls.Certificate) *tls.Config {
		return &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", Certificates: certs, MinVersion: tls.VersionTLS12}
	}

	_, err := shake(t, b.server.Addr(), with())
	require.Error(t, err, "a client without a certificate")
	_, err = shake(t, b.server.Addr(), with(theirs))
	require.Error(t, err, "a client with a certificate of somebody else")
	before, err := shake(t, b.server.Addr(), with(mine))
	require.NoError(t, err)

	conn, err := grpc.NewClient(b.server.Addr(), grpc.WithTransportCredentials(credentials.NewTLS(with(mine))))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	b.client = authv3.NewAuthorizationClient(conn)
	assert.Equal(t, 401, denialStatus(b.ask(t, question("GET", "/proxy/acme/v1/models"))))

	require.NoError(t, os.WriteFile(filepath.Join(dir, "cert.pem"), []byte("half a renewal"), 0o600))
	require.Eventually(t, func() bool { return strings.Contains(b.Log.String(), "could not be read again") }, 10*time.Second, time.Millisecond)
	during, err := shake(t, b.server.Addr(), with(mine))
	require.NoError(t, err)
	assert.Equal(t, before.SerialNumber, during.SerialNumber)

	second.pair(t, dir, "patrol")
	require.NoError(t, os.WriteFile(caFile, second.pem, 0o600))
	require.Eventually(t, func() bool {
		after, err := shake(t, b.server.Addr(), with(theirs))
		return err == nil && after.SerialNumber.Cmp(before.SerialNumber) != 0
	}, 10*time.Second, time.Millisecond)
	_, err = shake(t, b.server.Addr(), with(mine))
	assert.Error(t, err, "an authority that is not one any more")
	assert.Equal(t, 401, denialStatus(b.ask(t, question("GET", "/proxy/acme/v1/models"))), "open connections go on")
}

func TestTLSFilesThatCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	newAuthority(t).pair(t, dir, "patrol")
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, c := range map[string]struct {
		tls  extauthz.TLSConfig
		want string
	}{
		"absent":      {extauthz.TLSConfig{CertFile: filepath.Join(dir, "none"), KeyFile: key}, "no such file"},
		"not a pair":  {extauthz.TLSConfig{CertFile: key, KeyFile: key}, "load the TLS certificate"},
		"not a CA":    {extauthz.TLSConfig{CertFile: cert, KeyFile: key, ClientCAFile: key}, "there is no certificate in it"},
		"no key file": {extauthz.TLSConfig{CertFile: cert}, "both a certificate file and a key file"},
		"a CA alone":  {extauthz.TLSConfig{ClientCAFile: cert}, "only over TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config()
			c.tls.ReloadInterval = time.Second
			cfg.TLS = c.tls
			s, err := extauthz.New(cfg, extauthz.Deps{Authz: authztest.New(t)})
			if err == nil {
				err = s.Listen(t.Context())
			}
			assert.ErrorContains(t, err, c.want)
		})
	}
}

func TestDrain(t *testing.T) {
	b := start(t, func(c *extauthz.Config) { c.Timeout, c.MaxInFlight = 10*time.Second, 4 })
	_, token := b.Mint(t, "u1", "acme:models:*:read")
	release, arrived := make(chan struct{}), make(chan struct{}, 10)
	b.Gate(func(context.Context) error { arrived <- struct{}{}; <-release; return nil })
	answered := make(chan int)
	go func() {
		res, err := b.client.Check(context.Background(), question("GET", "/proxy/acme/v1/models", bearer(token)))
		if !assert.NoError(t, err) {
			res = &authv3.CheckResponse{}
		}
		answered <- denialStatus(res)
	}()
	<-arrived

	stopped := make(chan struct{})
	go func() { b.stop(); close(stopped) }()
	require.Eventually(t, func() bool { // no new connections
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", b.server.Addr())
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	}, 10*time.Second, time.Millisecond)
	select {
	case <-stopped:
		t.Fatal("it ended with a request in flight")
	default:
	}
	close(release)
	assert.Equal(t, 200, <-answered)
	<-stopped
}

func TestDrainIsBounded(t *testing.T) {
	b := start(t, func(c *extauthz.Config) { c.Timeout, c.DrainTimeout = time.Minute, 50*time.Millisecond })
	_, token := b.Mint(t, "u1", "acme:models:*:read")
	arrived := make(chan struct{}, 10)
	b.Gate(func(ctx context.Context) error { arrived <- struct{}{}; <-ctx.Done(); return ctx.Err() })
	cut := make(chan error)
	go func() {
		_, err := b.client.Check(context.Background(), question("GET", "/proxy/acme/v1/models", bearer(token)))
		cut <- err
	}()
	<-arrived
	b.stop()
	assert.Equal(t, codes.Unavailable, status.Code(<-cut))
	assert.Contains(t, b.Log.String(), "were cut")
}

func TestHealth(t *testing.T) {
	b := start(t, nil)
	client := healthpb.NewHealthClient(b.conn)
	check := func(service string) healthpb.HealthCheckResponse_ServingStatus {
		res, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		require.NoError(t, err)
		return res.GetStatus()
	}
	const serving, notServing = healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING
	for _, service := range []string{"", "envoy.service.auth.v3.Authorization"} {
		assert.Equal(t, serving, check(service), "a database that is gone is answered with denials, not with silence")
	}
	require.Eventually(t, func() bool { return check("ready") == notServing }, 10*time.Second, time.Millisecond)
	b.Start(t)
	require.Eventually(t, func() bool { return check("ready") == serving }, 10*time.Second, time.Millisecond)
}

func TestTheEndIsAnnouncedFirst(t *testing.T) {
	b := start(t, func(c *extauthz.Config) { c.DrainDelay = time.Hour })
	client := healthpb.NewHealthClient(b.conn)
	watch, err := client.Watch(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	res, err := watch.Recv()
	require.NoError(t, err)
	require.Equal(t, healthpb.HealthCheckResponse_SERVING, res.GetStatus())
	stopped := make(chan struct{})
	go func() { b.stop(); close(stopped) }()
	res, err = watch.Recv()
	require.NoError(t, err)
	require.Equal(t, healthpb.HealthCheckResponse_NOT_SERVING, res.GetStatus())
	assert.Equal(t, 401, denialStatus(b.ask(t, question("GET", "/proxy/acme/v1/models"))), "and it still serves")
	require.NoError(t, watch.CloseSend())
	select {
	case <-stopped:
		t.Fatal("it ended with an Envoy connected")
	default:
	}
	require.NoError(t, b.conn.Close())
	<-stopped // nobody is left to wait for
}

func TestConfigIsChecked(t *testing.T) {
	require.NoError(t, extauthz.DefaultConfig().Validate())
	for want, spoil := range map[string]func(*extauthz.Config){
		"listen":              func(c *extauthz.Config) { c.Listen = "nowhere" },
		"timeout":             func(c *extauthz.Config) { c.Timeout = 0 },
		"largest message":     func(c *extauthz.Config) { c.MaxMessageBytes = 1 },
		"cannot be removed":   func(c *extauthz.Config) { c.RemoveHeaders = []string{"Host"} },
		"trusted proxy":       func(c *extauthz.Config) { c.TrustedProxies = []string{"everybody"} },
		"keepalive time":      func(c *extauthz.Config) { c.Keepalive.Time = 0 },
		"drain timeout":       func(c *extauthz.Config) { c.DrainTimeout = 0 },
		"TLS reload interval": func(c *extauthz.Config) { c.TLS.ReloadInterval = 0 },
	} {
		c := extauthz.DefaultConfig()
		spoil(&c)
		assert.ErrorContains(t, c.Validate(), want)
	}
}
