package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// certificate is the TLS certificate in use, read again when its files change.
// While new files do not fit together, as halfway through a renewal, the old
// certificate stays.
type certificate struct {
	cfg         TLSConfig
	current     atomic.Pointer[tls.Certificate]
	cert, key   []byte // what current was made from
	lastFailure string // so that a lasting failure is logged once
}

func loadCertificate(cfg TLSConfig) (*certificate, error) {
	c := &certificate{cfg: cfg}
	if _, err := c.reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// reload reads the files and reports whether the certificate changed. It is not
// safe for concurrent use. Contents are compared, since times and sizes can stay
// the same when a symbolic link is moved.
func (c *certificate) reload() (changed bool, err error) {
	cert, err := os.ReadFile(c.cfg.CertFile)
	if err != nil {
		return false, fmt.Errorf("read the TLS certificate: %w", err)
	}
	key, err := os.ReadFile(c.cfg.KeyFile)
	if err != nil {
		return false, fmt.Errorf("read the TLS key: %w", err)
	}
	if bytes.Equal(cert, c.cert) && bytes.Equal(key, c.key) {
		return false, nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return false, fmt.Errorf("load the TLS certificate %s: %w", c.cfg.CertFile, err)
	}
	c.cert, c.key = cert, key
	c.current.Store(&pair)
	return true, nil
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.current.Load(), nil
}

// watch reloads until ctx ends.
func (c *certificate) watch(ctx context.Context, log *slog.Logger) {
	ticker := time.NewTicker(c.cfg.ReloadInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		changed, err := c.reload()
		switch {
		case err != nil && err.Error() != c.lastFailure:
			c.lastFailure = err.Error()
			log.WarnContext(ctx, "the TLS certificate could not be read again; the one before stays in use", "error", err)
		case err == nil:
			c.lastFailure = ""
			if changed {
				log.InfoContext(ctx, "the TLS certificate was replaced", "file", c.cfg.CertFile)
			}
		}
	}
}
