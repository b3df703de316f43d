package extauthz

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

// identity is the listener's TLS configuration, made again when its files
// change. While new files do not fit together, as halfway through a renewal, the
// old configuration stays.
type identity struct {
	cfg     TLSConfig
	current atomic.Pointer[tls.Config]
	from    [3][]byte // what current was made from
}

func loadIdentity(cfg TLSConfig) (*identity, error) {
	i := &identity{cfg: cfg}
	if _, err := i.reload(); err != nil {
		return nil, err
	}
	return i, nil
}

// server returns a configuration whose every handshake uses what is current.
func (i *identity) server() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12, // Envoy's clients stop there unless told otherwise
		NextProtos:         []string{"h2"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return i.current.Load(), nil },
	}
}

// reload reads the files and reports whether anything changed. It is not safe for
// concurrent use. Contents are compared, since times and sizes can stay the same
// when a symbolic link is moved.
func (i *identity) reload() (changed bool, err error) {
	var files [3][]byte
	for n, name := range [...]string{i.cfg.CertFile, i.cfg.KeyFile, i.cfg.ClientCAFile} {
		if name == "" {
			continue
		}
		if files[n], err = os.ReadFile(name); err != nil { //nolint:gosec // the settings name the files
			return false, fmt.Errorf("read the gRPC listener's TLS files: %w", err)
		}
	}
	if bytes.Equal(files[0], i.from[0]) && bytes.Equal(files[1], i.from[1]) && bytes.Equal(files[2], i.from[2]) {
		return false, nil
	}
	pair, err := tls.X509KeyPair(files[0], files[1])
	if err != nil {
		return false, fmt.Errorf("load the TLS certificate %s: %w", i.cfg.CertFile, err)
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}, Certificates: []tls.Certificate{pair}}
	if i.cfg.ClientCAFile != "" {
		cfg.ClientCAs, cfg.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !cfg.ClientCAs.AppendCertsFromPEM(files[2]) {
			return false, fmt.Errorf("load the client CA %s: %w", i.cfg.ClientCAFile, errNoCertificate)
		}
		// A resumed session would skip a look at the authorities of today.
		cfg.SessionTicketsDisabled = true
	}
	i.from = files
	i.current.Store(cfg)
	return true, nil
}

var errNoCertificate = errors.New("there is no certificate in it")

// watch reloads until ctx ends.
func (i *identity) watch(ctx context.Context, log *slog.Logger) {
	ticker := time.NewTicker(i.cfg.ReloadInterval)
	defer ticker.Stop()
	lastFailure := "" // so that a lasting failure is logged once
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		changed, err := i.reload()
		switch {
		case err != nil && err.Error() != lastFailure:
			lastFailure = err.Error()
			log.WarnContext(ctx, "the gRPC listener's TLS files could not be read again; those before stay in use", "error", err)
		case err == nil:
			lastFailure = ""
			if changed {
				log.InfoContext(ctx, "the gRPC listener's TLS files were replaced", "file", i.cfg.CertFile)
			}
		}
	}
}
