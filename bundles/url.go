package bundles

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// URLOptions are for a source that is a URL.
type URLOptions struct {
	// Credential is sent as a Bearer token; "" for none.
	Credential string
	// CAFile is a PEM file with the certificates that the server's must come from;
	// "" is the system's.
	CAFile string
	// Wait is how long the server may hold a request back until there is something
	// new.
	Wait time.Duration
	// Timeout bounds connecting, and the transfer once it has begun.
	Timeout time.Duration
}

// mediaType is the content type by which a server says that it knows long polling.
const mediaType = "application/vnd.openpolicyagent.bundles"

// urlSource polls a bundle server as OPA does: If-None-Match with the ETag of what
// is there, and Prefer: wait, which servers that do not know it pass over.
type urlSource struct {
	Options
	client *http.Client
	shown  string // the URL without what may be secret

	etag    string
	content string // digest of the archive that was last returned
	long    bool   // the server knows long polling
	begun   bool
	idle    bool // it answered at once that there is nothing new
	fails   int
}

// CheckURL reports what keeps text from being the URL of a bundle. Plain HTTP is
// for this machine alone, since whoever can change what is transferred changes the policy.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "": // the error would repeat the URL
		return errors.New("it is not a URL")
	case u.User != nil:
		return errors.New("it must not hold a user name or password: set the credential")
	case u.Fragment != "":
		return errors.New("it must not have a #")
	case u.Scheme == "https":
	case u.Scheme != "http":
		return errors.New("it must begin with https://")
	case !isLoopback(u.Hostname()):
		return errors.New("it must begin with https://: over http:// anybody on the way could change the policy; only this machine may be asked so")
	}
	return nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

func newURLSource(o Options) (*urlSource, error) {
	if err := CheckURL(o.Source); err != nil {
		return nil, fmt.Errorf("policy URL: %w", err)
	}
	if o.Interval <= 0 || o.URL.Wait < 0 || o.URL.Timeout <= 0 {
		return nil, errors.New("the interval and the timeout of a policy URL must be positive")
	}
	u, err := url.Parse(o.Source)
	if err != nil {
		return nil, errors.New("policy URL: it is not a URL")
	}
	u.RawQuery = ""
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.URL.CAFile != "" {
		pem, err := os.ReadFile(o.URL.CAFile)
		if err != nil {
			return nil, fmt.Errorf("policy URL: read the CA: %w", err)
		}
		trust.RootCAs = x509.NewCertPool()
		if !trust.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("policy URL: there is no certificate in %s", o.URL.CAFile)
		}
	}
	s := &urlSource{Options: o, shown: u.String()}
	s.client = &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: o.URL.Timeout}).DialContext,
			TLSClientConfig:       trust,
			TLSHandshakeTimeout:   o.URL.Timeout,
			ResponseHeaderTimeout: o.URL.Wait + o.URL.Timeout,
			DisableCompression:    true, // it is compressed, and bounded as it is
			ForceAttemptHTTP2:     true,
			MaxIdleConns:          1,
			IdleConnTimeout:       90 * time.Second,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) >= 5 {
				return errors.New("it redirects more than five times")
			}
			if err := CheckURL(r.URL.String()); err != nil {
				return fmt.Errorf("it redirects to where no policy may come from: %w", err)
			}
			return nil
		},
	}
	return s, nil
}

func (s *urlSource) Name() string { return s.shown }

// backoff is the first pause after a failure. It doubles, up to the interval.
const backoff = time.Second

func (s *urlSource) Next(ctx context.Context) (*Bundle, error) {
	for {
		if err := sleep(ctx, s.pause()); err != nil {
			return nil, err
		}
		s.begun = true
		asked := time.Now()
		archive, err := s.fetch(ctx)
		s.idle = time.Since(asked) < time.Second
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			s.fails++
			return nil, err
		}
		s.fails = 0
		if archive == nil {
			continue
		}
		digest := ArchiveDigest(archive)
		if digest == s.content {
			continue
		}
		s.content, s.idle = digest, false
		return Unpack(ctx, s.shown, archive, s.Verifier)
	}
}

// pause is how long to wait before the next request. Requests of many servers are
// spread by a quarter of the interval.
func (s *urlSource) pause() time.Duration {
	spread := func(d time.Duration) time.Duration {
		return d - d/8 + rand.N(d/4+1) //nolint:gosec // G404: jitter
	}
	switch {
	case !s.begun:
		return 0
	case s.fails > 0:
		return spread(min(s.Interval, backoff<<min(s.fails-1, 10)))
	case s.long && !s.idle:
		return 0
	default:
		return spread(s.Interval)
	}
}

// fetch asks once. It returns nil if there is nothing new.
func (s *urlSource) fetch(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Source, nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s for a policy: it is not a URL", s.shown)
	}
	r.Header.Set("User-Agent", "patrol")
	prefer := "modes=snapshot"
	if wait := int(s.URL.Wait / time.Second); wait > 0 && s.etag != "" {
		prefer += ";wait=" + strconv.Itoa(wait)
	}
	r.Header.Set("Prefer", prefer)
	if s.etag != "" {
		r.Header.Set("If-None-Match", s.etag)
	}
	if s.URL.Credential != "" {
		r.Header.Set("Authorization", "Bearer "+s.URL.Credential)
	}
	answer, err := s.client.Do(r)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // which does not repeat the URL with its query
		}
		return nil, fmt.Errorf("ask %s for a policy: %w", s.shown, err)
	}
	defer answer.Body.Close()
	// A server that sends a byte now and then must not hold on for ever.
	late := time.AfterFunc(s.URL.Timeout, cancel)
	defer late.Stop()
	s.long = strings.HasPrefix(answer.Header.Get("Content-Type"), mediaType) && s.URL.Wait > 0
	switch answer.StatusCode {
	case http.StatusNotModified:
		if etag := answer.Header.Get("ETag"); etag != "" {
			s.etag = etag
		}
		return nil, nil
	case http.StatusOK:
	default:
		return nil, fmt.Errorf("ask %s for a policy: it answers %s", s.shown, answer.Status)
	}
	archive, err := readLimited(answer.Body)
	if err != nil {
		if len(archive) > maxTotal {
			return nil, bad(ctx, s.shown, archive[:0], fmt.Errorf("open policy %s: %w", s.shown, err))
		}
		if ctx.Err() != nil {
			err = fmt.Errorf("it was not transferred within %s", s.URL.Timeout)
		}
		return nil, fmt.Errorf("ask %s for a policy: %w", s.shown, err)
	}
	if len(archive) == 0 {
		return nil, fmt.Errorf("ask %s for a policy: its answer is empty", s.shown)
	}
	s.etag = answer.Header.Get("ETag")
	return archive, nil
}
