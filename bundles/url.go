package bundles

import (
	"cmp"
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
	// Wait is the time that the server may hold a request back until there is something
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

	etag    string // of what was last returned
	content string // digest of its archive, or [tooLarge]
	long    bool   // the server knows long polling
	begun   bool
	idle    bool // it answered at once that there is nothing new
	fails   int
}

// tooLarge stands for the digest of archives that are too large to be read, which
// are all the same.
const tooLarge = "too large"

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
		got, err := s.fetch(ctx)
		s.idle = time.Since(asked) < time.Second
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			s.fails++
			return nil, err
		}
		back := s.fails > 0
		s.fails = 0
		b, err := s.read(ctx, got)
		if b == nil && err == nil && !back {
			continue
		}
		return b, err
	}
}

// answer is the answer of a server.
type answer struct {
	archive []byte // nil: nothing new
	large   bool   // it is too large to be read
	etag    string
}

// read returns what an answer has that is news. If ctx ends before that is known, the
// answer is asked for again.
func (s *urlSource) read(ctx context.Context, got answer) (*Bundle, error) {
	digest := s.content
	switch {
	case got.large:
		digest = tooLarge
	case got.archive != nil:
		digest = ArchiveDigest(got.archive)
	}
	if digest == s.content {
		s.etag = got.etag
		return nil, nil //nolint:nilnil // there is nothing new
	}
	var b *Bundle
	var err error
	if got.large {
		err = &BadBundleError{Name: s.shown, Err: fmt.Errorf("open policy %s: %w", s.shown, errTooLarge)}
	} else {
		b, err = Unpack(ctx, s.shown, got.archive, s.Verifier)
	}
	if _, refused := errors.AsType[*BadBundleError](err); err == nil || refused {
		s.etag, s.content, s.idle = got.etag, digest, false
	}
	return b, err
}

// pause is the time to wait before the next request. Requests of many servers are
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

// fetch asks once.
func (s *urlSource) fetch(ctx context.Context) (answer, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Source, nil)
	if err != nil {
		return answer{}, fmt.Errorf("ask %s for a policy: it is not a URL", s.shown)
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
	resp, err := s.client.Do(r)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // which does not repeat the URL with its query
		}
		return answer{}, fmt.Errorf("ask %s for a policy: %w", s.shown, err)
	}
	defer resp.Body.Close()
	// A server that sends a byte now and then must not hold on for ever.
	late := time.AfterFunc(s.URL.Timeout, cancel)
	defer late.Stop()
	s.long = strings.HasPrefix(resp.Header.Get("Content-Type"), mediaType) && s.URL.Wait > 0
	got := answer{etag: resp.Header.Get("ETag")}
	switch {
	case resp.StatusCode == http.StatusNotModified && s.etag != "":
		got.etag = cmp.Or(got.etag, s.etag)
		return got, nil
	case resp.StatusCode != http.StatusOK:
		return answer{}, fmt.Errorf("ask %s for a policy: it answers %s", s.shown, resp.Status)
	case resp.ContentLength > maxTotal:
		got.large = true
		return got, nil
	}
	got.archive, err = readLimited(resp.Body)
	switch {
	case errors.Is(err, errTooLarge):
		got.archive, got.large = nil, true
		return got, nil
	case err != nil && ctx.Err() != nil:
		err = fmt.Errorf("it was not transferred within %s", s.URL.Timeout)
	case err == nil && len(got.archive) == 0:
		err = errors.New("its answer is empty")
	}
	if err != nil {
		return answer{}, fmt.Errorf("ask %s for a policy: %w", s.shown, err)
	}
	return got, nil
}
