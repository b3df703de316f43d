package identity

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"patrol/models"
	"patrol/server/request"
	"patrol/server/window"
)

// provider is the OpenID Connect provider at which people sign in (OpenID Connect
// Core 1.0, authorization code flow with PKCE). What it says of itself is fetched
// when the first one asks for it, so that Patrol starts, and takes passwords,
// while the provider is away.
//
// It finds out who comes back from there; what that means here is in oidc_signin.go.
type provider struct {
	cfg      OIDCConfig
	callback string // redirect URI
	http     *http.Client
	now      func() time.Time
	random   io.Reader
	log      *slog.Logger

	found   atomic.Pointer[discovered] // nil until the provider has answered
	asking  sync.Mutex
	retryAt time.Time // not asked again before; under asking

	counting sync.Mutex
	refused  *window.Limit[netip.Prefix] // codes that the provider refused, by address; under counting
	logouts  *window.Limit[netip.Prefix] // logout tokens that were refused, by address; under counting
}

// discovered is the provider's description of itself.
type discovered struct {
	oauth    oauth2.Config
	verifier *oidc.IDTokenVerifier
	provider *oidc.Provider
	logout   string // end_session_endpoint, "" if there is none
	namesIss bool   // every answer names the issuer (RFC 9207)
	at       time.Time
}

const (
	oidcRetry = 5 * time.Second // between two attempts to reach a provider that is away
	// oidcReread is the time for which the provider's description of itself is used before it is
	// read again: endpoints move.
	oidcReread = time.Hour
	// oidcSkew is the tolerated difference of the provider's clock.
	oidcSkew = time.Minute
	// maxProviderAnswer bounds what is read of one answer of the provider.
	maxProviderAnswer = 1 << 20
	// flowLife bounds the time to sign in at the provider.
	flowLife = 15 * time.Minute
)

// newProvider returns the provider of a configuration, nil if there is none.
func newProvider(cfg OIDCConfig, callback string, now func() time.Time, random io.Reader, log *slog.Logger) *provider {
	if cfg.Issuer == "" {
		return nil
	}
	return &provider{
		cfg: cfg, callback: callback, now: now, random: random, log: log,
		refused: window.NewLimit[netip.Prefix](maxRefusedCodes, time.Minute, maxRefusers),
		logouts: window.NewLimit[netip.Prefix](maxRefusedCodes, time.Minute, maxRefusers),
		http: &http.Client{
			Timeout:   cfg.Timeout,
			Transport: boundedAnswers{http.DefaultTransport},
			// What is sent holds the client's secret and codes: it goes where the
			// provider's own document says, and nowhere else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// boundedAnswers cuts answers that are larger than any provider's.
type boundedAnswers struct{ next http.RoundTripper }

func (b boundedAnswers) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxProviderAnswer)
	}
	return resp, err
}

// errProviderAway is CodeUnavailable: the provider cannot be asked.
func errProviderAway(cause error) error {
	return models.WrapError(models.CodeUnavailable, "the identity provider does not answer", cause)
}

// context returns a context in which the libraries use the bounded client.
func (p *provider) context(ctx context.Context) context.Context {
	return oidc.ClientContext(ctx, p.http)
}

// discover returns what the provider says of itself, read again every hour. While it does
// not answer it is asked again every few seconds at most, and what it said last counts.
func (p *provider) discover(ctx context.Context) (*discovered, error) {
	found := p.found.Load()
	if found != nil && p.now().Sub(found.at) < oidcReread {
		return found, nil
	}
	if found != nil && !p.asking.TryLock() { // somebody else asks
		return found, nil
	}
	if found == nil {
		p.asking.Lock()
	}
	defer p.asking.Unlock()
	if last := p.found.Load(); last != found {
		return last, nil
	}
	if wait := p.retryAt.Sub(p.now()); wait > 0 {
		if found != nil {
			return found, nil
		}
		return nil, errProviderAway(fmt.Errorf("it did not answer a moment ago; the next attempt is in %s", wait.Round(time.Second)))
	}
	// Not cut short by somebody who gives up: others wait for the answer, too.
	asked, err := p.read(context.WithoutCancel(ctx))
	if err != nil {
		p.retryAt = p.now().Add(oidcRetry)
		if found != nil {
			p.log.WarnContext(ctx, "the identity provider's description of itself could not be read again; the last one counts", "error", err)
			return found, nil
		}
		return nil, errProviderAway(err)
	}
	p.found.Store(asked)
	return asked, nil
}

// read asks the provider for its description (OpenID Connect Discovery 1.0).
func (p *provider) read(ctx context.Context) (*discovered, error) {
	asked, err := oidc.NewProvider(p.context(ctx), p.cfg.Issuer)
	if err != nil {
		return nil, fmt.Errorf("discover the identity provider: %w", err)
	}
	var more struct {
		Authorization string `json:"authorization_endpoint"`
		Token         string `json:"token_endpoint"`
		UserInfo      string `json:"userinfo_endpoint"`
		Keys          string `json:"jwks_uri"`
		Logout        string `json:"end_session_endpoint"`
		NamesIss      bool   `json:"authorization_response_iss_parameter_supported"`
	}
	if err := asked.Claims(&more); err != nil {
		return nil, fmt.Errorf("read what the identity provider says of itself: %w", err)
	}
	if strings.HasPrefix(p.cfg.Issuer, "https://") {
		for name, endpoint := range map[string]string{
			"authorization_endpoint": more.Authorization, "token_endpoint": more.Token, "userinfo_endpoint": more.UserInfo, "jwks_uri": more.Keys,
		} {
			if u, err := url.Parse(endpoint); endpoint != "" && (err != nil || u.Scheme != "https") {
				return nil, fmt.Errorf("the identity provider's %s is not an https URL, as its issuer is", name)
			}
		}
	}
	found := &discovered{
		oauth: oauth2.Config{
			ClientID: p.cfg.ClientID, ClientSecret: p.cfg.ClientSecret.Reveal(), Endpoint: asked.Endpoint(), RedirectURL: p.callback, Scopes: p.cfg.scopes(),
		},
		// The lifetime of a token is checked in verify, with leeway.
		verifier: asked.Verifier(&oidc.Config{ClientID: p.cfg.ClientID, Now: p.now, SkipExpiryCheck: true}), provider: asked,
		namesIss: more.NamesIss, at: p.now(),
	}
	if u, err := url.Parse(more.Logout); err == nil && (u.Scheme == "https" || u.Scheme == "http") {
		found.logout = more.Logout
	}
	return found, nil
}

// Purpose is the purpose of a visit to the provider.
type Purpose string

// The purposes.
const (
	ToSignIn  Purpose = "sign_in"
	ToConfirm Purpose = "confirm" // that they are still who signed in
	ToLink    Purpose = "link"    // who they are there to their account
)

// Flow is one visit to the provider. It is kept by the browser in a cookie, which
// proves that whoever comes back is who went, and holds nothing that others could
// use: the state and the nonce are good for this visit, the verifier for its code.
type Flow struct {
	Purpose  Purpose `json:"p"`
	State    string  `json:"s"`
	Nonce    string  `json:"n"`
	Verifier string  `json:"v"` // of PKCE (RFC 7636)
	Next     string  `json:"x,omitempty"`
	Begun    int64   `json:"t,omitempty"` // Unix seconds
}

// begin starts a visit and returns the address to send the browser to.
func (p *provider) begin(ctx context.Context, why Purpose, next string, freshFor time.Duration) (Flow, string, error) {
	found, err := p.discover(ctx)
	if err != nil {
		return Flow{}, "", err
	}
	f := Flow{Purpose: why, Next: request.LocalPath(next), Begun: p.now().Unix()}
	for _, into := range []*string{&f.State, &f.Nonce, &f.Verifier} {
		var raw [32]byte
		if _, err := io.ReadFull(p.random, raw[:]); err != nil {
			return Flow{}, "", fmt.Errorf("draw a state: %w", err)
		}
		*into = base64.RawURLEncoding.EncodeToString(raw[:])
	}
	options := []oauth2.AuthCodeOption{oidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier)}
	if maxAge := p.maxAge(why, freshFor); maxAge > 0 {
		options = append(options, oauth2.SetAuthURLParam("max_age", strconv.Itoa(int(maxAge/time.Second))))
	}
	if len(p.cfg.RequiredACR) > 0 {
		options = append(options, oauth2.SetAuthURLParam("acr_values", strings.Join(p.cfg.RequiredACR, " ")))
	}
	switch {
	case why == ToSignIn:
	case p.cfg.RequireAuthTime:
		options = append(options, oauth2.SetAuthURLParam("prompt", "login"))
	default: // providers that do not know when somebody signed in mostly cannot ask for it either
		options = append(options, oauth2.SetAuthURLParam("prompt", "select_account"))
	}
	return f, found.oauth.AuthCodeURL(f.State, options...), nil
}

// maxAge is the longest time since the person gave their credentials to the
// provider, 0 for any.
func (p *provider) maxAge(why Purpose, freshFor time.Duration) time.Duration {
	if why != ToSignIn {
		return freshFor
	}
	return p.cfg.MaxAge
}

// claims are the claims about somebody that Patrol uses.
type claims struct {
	Subject string
	Session string // the id of the session there, "" if the provider names none
	Email   string // "" if it was not verified
	Name    string
	Groups  []string
	// GroupsUnknown says that the provider has more groups than it sends, so that Groups
	// says nothing.
	GroupsUnknown bool
	SignedIn      time.Time // when they gave their credentials; zero if that is not known
}

// errNotSignedIn is a refusal that belongs to the person or the provider, not to
// Patrol; why is for the log.
func errNotSignedIn(message, why string) error {
	return models.WrapError(models.CodeForbidden, message, errors.New(why))
}

const (
	messageBegunElsewhere = "this sign-in was not begun in this browser, or took too long; begin again"
	messageNotVouched     = "the identity provider's answer could not be verified; begin again"
)

// errorCode is the form in which an OAuth error code may be repeated.
var errorCode = regexp.MustCompile(`^[a-z_]{1,40}$`)

// finish judges what a visit brought back, and returns who came from an address. What
// costs the provider nothing is not counted: an answer that no visit of this browser
// asked for, and one that says that nobody signed in.
func (p *provider) finish(ctx context.Context, f Flow, query url.Values, freshFor time.Duration, from netip.Addr) (claims, error) {
	if p.now().Unix()-f.Begun > int64(flowLife/time.Second) {
		return claims{}, errNotSignedIn(messageBegunElsewhere, "the visit took too long")
	}
	if f.State == "" || f.Nonce == "" || f.Verifier == "" || subtle.ConstantTimeCompare([]byte(f.State), []byte(query.Get("state"))) != 1 {
		return claims{}, errNotSignedIn(messageBegunElsewhere, "no flow in this browser has this state")
	}
	for name, values := range query {
		if len(values) > 1 { // RFC 6749 §3.1
			return claims{}, errNotSignedIn(messageNotVouched, "the answer has "+strconv.Quote(models.MaskTokens(name))+" more than once")
		}
	}
	found, err := p.discover(ctx)
	if err != nil {
		return claims{}, err
	}
	if iss := query.Get("iss"); iss != p.cfg.Issuer && (iss != "" || found.namesIss) { // RFC 9207 §2.4
		return claims{}, errNotSignedIn(messageNotVouched, "the answer names another issuer, or none where the provider promises one")
	}
	if code := query.Get("error"); code != "" {
		if !errorCode.MatchString(code) {
			code = "error"
		}
		return claims{}, errNotSignedIn(p.cfg.Name+" did not sign you in ("+code+")", "the identity provider answered "+code)
	}
	ctx = p.context(ctx)
	tokens, err := p.exchange(ctx, found, f, query.Get("code"), from)
	if err != nil {
		return claims{}, err
	}
	raw, ok := tokens.Extra("id_token").(string)
	if !ok {
		return claims{}, errNotSignedIn(messageNotVouched, "the answer has no ID token")
	}
	if err := headerSays(raw, "id_token"); err != nil {
		return claims{}, errNotSignedIn(messageNotVouched, err.Error())
	}
	token, err := found.verifier.Verify(ctx, raw)
	if err != nil {
		return claims{}, errNotSignedIn(messageNotVouched, err.Error())
	}
	said, err := p.vouched(token, tokens.AccessToken, f.Nonce)
	if err != nil {
		return claims{}, errNotSignedIn(messageNotVouched, err.Error())
	}
	if err := p.cfg.strongEnough(said); err != nil {
		return claims{}, err
	}
	if err := p.ask(ctx, found, tokens, token.Subject, said); err != nil {
		return claims{}, err
	}
	c := claims{Subject: token.Subject, Session: sidOf(said["sid"]), Name: text(said["name"]), Groups: texts(said[p.cfg.GroupsClaim])}
	c.GroupsUnknown = said[p.cfg.GroupsClaim] == nil && elsewhere(said, p.cfg.GroupsClaim)
	if truth(said[p.cfg.VerifiedClaim]) {
		c.Email = models.NormalizeEmail(text(said["email"]))
	}
	c.SignedIn, err = p.signedIn(said["auth_time"], p.maxAge(f.Purpose, freshFor))
	return c, err
}

// exchange turns a code into tokens at the provider. Codes that the provider refused
// are counted for the address that they came from, which somebody has to send on
// purpose: each costs a visit of its own.
func (p *provider) exchange(ctx context.Context, found *discovered, f Flow, code string, from netip.Addr) (*oauth2.Token, error) {
	if wait := p.refusing(p.refused, from); wait > 0 {
		return nil, window.TooSoon(wait, "too many sign-ins from your address were refused by the identity provider; wait before the next")
	}
	tokens, err := found.oauth.Exchange(ctx, code, oauth2.VerifierOption(f.Verifier))
	if err != nil {
		err = exchangeFailure(err)
	}
	if models.CodeOf(err) == models.CodeForbidden {
		p.countRefused(p.refused, from)
	}
	return tokens, err
}

// refusing returns how long nothing is taken from an address, of which too much was refused.
func (p *provider) refusing(limit *window.Limit[netip.Prefix], from netip.Addr) time.Duration {
	p.counting.Lock()
	defer p.counting.Unlock()
	return limit.Wait(p.now(), request.Network(from))
}

func (p *provider) countRefused(limit *window.Limit[netip.Prefix], from netip.Addr) {
	p.counting.Lock()
	defer p.counting.Unlock()
	limit.Count(p.now(), request.Network(from))
}

// The codes and logout tokens from one address that may be refused in a minute, and how many
// addresses are remembered.
const (
	maxRefusedCodes = 30
	maxRefusers     = 4096
)

// exchangeFailure tells a code that is no good from a provider that is away. What
// the provider wrote is left out: it may repeat what it was sent.
func exchangeFailure(err error) error {
	refused, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok {
		return errProviderAway(err)
	}
	code := refused.ErrorCode
	if !errorCode.MatchString(code) {
		code = "error"
	}
	why := fmt.Sprintf("the identity provider refused the code: %d %s", refused.Response.StatusCode, code)
	if code == "invalid_grant" {
		return errNotSignedIn(messageBegunElsewhere, why)
	}
	return errProviderAway(errors.New(why)) // invalid_client and the like: an operator has to look
}

// logoutURL returns the address at which one signs out of the provider, "" if it is not known.
func (p *provider) logoutURL(back string) string {
	found := p.found.Load()
	if found == nil || found.logout == "" {
		return ""
	}
	u, err := url.Parse(found.logout)
	if err != nil {
		return ""
	}
	q := u.Query()
	q.Set("client_id", p.cfg.ClientID)
	q.Set("post_logout_redirect_uri", back)
	u.RawQuery = q.Encode()
	return u.String()
}

// maxCookie bounds a cookie's value to what browsers keep, with room for its name
// and attributes.
const maxCookie = 3500

// pack writes a flow for a cookie. Where to go afterwards may be a long address
// with all that a form held; if there is no room for it, its path is kept.
func (f Flow) pack() string {
	text := f.packed()
	if len(text) > maxCookie {
		f.Next, _, _ = strings.Cut(f.Next, "?")
		text = f.packed()
	}
	return text
}

func (f Flow) packed() string {
	plain, err := json.Marshal(f)
	if err != nil {
		panic(err) // strings can be marshalled
	}
	var small bytes.Buffer
	z, err := flate.NewWriter(&small, flate.BestCompression)
	if err != nil {
		panic(err) // the level is a valid one
	}
	_, _ = z.Write(plain) // a bytes.Buffer takes everything
	_ = z.Close()
	return base64.RawURLEncoding.EncodeToString(small.Bytes())
}

// unpack reads a flow from a cookie, the zero flow from anything else.
func unpack(cookie string) Flow {
	small, err := base64.RawURLEncoding.DecodeString(cookie)
	if err != nil {
		return Flow{}
	}
	plain, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(small)), 64<<10))
	if err != nil {
		return Flow{}
	}
	var f Flow
	if json.Unmarshal(plain, &f) != nil {
		return Flow{}
	}
	f.Next = request.LocalPath(f.Next)
	return f
}
