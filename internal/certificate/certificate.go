// Package certificate serves TLS with files that are read again when they change, without
// a restart.
//
// While new files do not fit together, as halfway through a renewal, the configuration
// before stays in use. Contents are compared, since times and sizes can stay the same when
// a symbolic link is moved.
package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// Files are the names of the files of a listener.
type Files struct {
	Cert     string // PEM, leaf first
	Key      string // PEM
	ClientCA string // PEM: clients must show a certificate of these; "": they need none
}

// Watched is the TLS configuration of a listener, made again when its files change.
type Watched struct {
	files    Files
	listener string   // named in errors and the log
	protocol []string // application protocols; nil: those of net/http
	current  atomic.Pointer[tls.Config]
	from     [3][]byte // current was made from these
}

// Load reads the files for the first time. listener is named in errors and the log.
func Load(listener string, files Files, protocol ...string) (*Watched, error) {
	w := &Watched{files: files, listener: listener, protocol: protocol}
	if _, err := w.Reload(); err != nil {
		return nil, err
	}
	return w, nil
}

// Config returns a configuration whose every handshake uses what is current.
func (w *Watched) Config() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12, // Envoy's clients stop there unless told otherwise
		NextProtos:         w.protocol,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return w.current.Load(), nil },
	}
}

// suites are those of TLS 1.2 that authenticate what they encrypt (AEAD). Go would also
// offer CBC, which RFC 9325 §4.2 advises against. TLS 1.3 has no others.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

var errNoCertificate = errors.New("there is no certificate in it")

// Reload reads the files and reports whether anything changed. It is not safe for
// concurrent use.
func (w *Watched) Reload() (changed bool, err error) {
	var files [3][]byte
	for n, name := range [...]string{w.files.Cert, w.files.Key, w.files.ClientCA} {
		if name == "" {
			continue
		}
		if files[n], err = os.ReadFile(name); err != nil { //nolint:gosec // the settings name the files
			return false, fmt.Errorf("read the TLS files of the %s listener: %w", w.listener, err)
		}
	}
	if bytes.Equal(files[0], w.from[0]) && bytes.Equal(files[1], w.from[1]) && bytes.Equal(files[2], w.from[2]) {
		return false, nil
	}
	pair, err := tls.X509KeyPair(files[0], files[1])
	if err != nil {
		return false, fmt.Errorf("load the TLS certificate %s: %w", w.files.Cert, err)
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, CipherSuites: suites, NextProtos: w.protocol, Certificates: []tls.Certificate{pair}}
	if w.files.ClientCA != "" {
		cfg.ClientCAs, cfg.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !cfg.ClientCAs.AppendCertsFromPEM(files[2]) {
			return false, fmt.Errorf("load the client CA %s: %w", w.files.ClientCA, errNoCertificate)
		}
		// A resumed session would skip a look at the authorities of today.
		cfg.SessionTicketsDisabled = true
	}
	w.from = files
	w.current.Store(cfg)
	return true, nil
}

// Expires returns when the certificate that is served ends.
func (w *Watched) Expires() time.Time {
	leaf := w.current.Load().Certificates[0].Leaf
	if leaf == nil {
		return time.Time{}
	}
	return leaf.NotAfter
}

// Watch reloads every so often until ctx ends.
func (w *Watched) Watch(ctx context.Context, every time.Duration, log *slog.Logger) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	lastFailure := "" // so that a lasting failure is logged once
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		changed, err := w.Reload()
		switch {
		case err != nil && err.Error() != lastFailure:
			lastFailure = err.Error()
			log.WarnContext(ctx, "the TLS files of a listener could not be read again; those before stay in use", "listener", w.listener, "error", err)
		case err == nil:
			lastFailure = ""
			if changed {
				log.InfoContext(ctx, "the TLS files of a listener were replaced", "listener", w.listener, "file", w.files.Cert)
			}
		}
	}
}
