package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"patrol/models"
)

// maxAnswer bounds what a client reads of one answer.
const maxAnswer = 16 << 20

// Client calls the HTTP interface of a Patrol server. Its methods are safe for
// concurrent use; its fields are set before the first call.
//
// An answer that says no is an [*Error]; a server that cannot be reached, or does
// not speak Patrol's interface, is some other error. Neither holds a secret.
type Client struct {
	base *url.URL
	http *http.Client

	// SessionToken is sent where a signed-in person is needed. [Client.SignIn]
	// and [Client.Reauthenticate] set it.
	SessionToken string
	// UserAgent names the program in the server's audit log.
	UserAgent string
	// OnWarning is told what went wrong beside something that was done all the same;
	// see [WarningHeader]. nil: nobody is.
	OnWarning func(text string)
}

// NewClient returns a client of the server at base, such as
// https://patrol.example.com. transport is nil for [http.DefaultTransport].
//
// The client follows no redirect: what it sends holds passwords and tokens, which
// must not go where an answer points.
func NewClient(base string, transport http.RoundTripper) (*Client, error) {
	u, err := url.Parse(base)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return nil, errors.New("the server's address must be a URL that starts with http:// or https://")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("the server's address must have no user name, password, ? or #")
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	return &Client{base: u, http: &http.Client{
		Transport:     transport,
		Timeout:       time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Base returns the server's address.
func (c *Client) Base() string { return c.base.String() }

// Private reports whether what is sent can be read by nobody on the way: over
// TLS, or without leaving this machine.
func (c *Client) Private() bool {
	if c.base.Scheme == "https" {
		return true
	}
	host := c.base.Hostname()
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().IsLoopback()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// Error is an answer of the server that says no.
type Error struct {
	Problem
	RetryAfter time.Duration // how long to wait before the next attempt, 0 if it was not said
}

// Error returns the server's words, with the fields that are wrong.
func (e *Error) Error() string {
	text := e.Detail
	if text == "" {
		text = e.Title
	}
	if len(e.Errors) > 0 {
		fields := make([]string, len(e.Errors))
		for i, f := range e.Errors {
			fields[i] = f.Field + ": " + f.Message
		}
		text = strings.Join(fields, "; ")
	}
	if e.Status >= http.StatusInternalServerError && e.RequestID != "" {
		text += " (request " + e.RequestID + ")"
	}
	return text
}

// Is reports whether err is an [*Error] with this code.
func Is(err error, code models.Code) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == string(code)
}

// call sends a request and reads its answer into out, if that is not nil. path is
// escaped already; bearer is sent as the credential, "" for none.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, bearer string, in, out any) error {
	for name := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		if name == "" || name == "." || name == ".." {
			// The address would be that of something else, such as all tokens.
			return errors.New("an id is empty, or none: nothing was sent")
		}
	}
	address := c.base.String() + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	var body io.Reader
	if in != nil {
		encoded, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	if c.UserAgent != "" {
		req.Header.Set("User-Agent", c.UserAgent)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("cannot reach %s: %w", c.base.Host, plain(err))
	}
	defer func() { _ = resp.Body.Close() }() // everything that matters was read
	return c.read(resp, out)
}

func (c *Client) read(resp *http.Response, out any) error {
	content, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", c.base.Host, plain(err))
	}
	mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case len(content) > maxAnswer:
		return fmt.Errorf("the answer of %s is too long", c.base.Host)
	case resp.StatusCode >= 300:
		e := &Error{}
		if mediaType != "application/problem+json" || json.Unmarshal(content, &e.Problem) != nil {
			return fmt.Errorf("%s answered %s, and not in Patrol's words: is this the address of a Patrol server?", c.base.Host, resp.Status)
		}
		if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
			e.RetryAfter = time.Duration(seconds) * time.Second
		}
		return e
	}
	if c.OnWarning != nil {
		for _, text := range resp.Header.Values(WarningHeader) {
			c.OnWarning(text)
		}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(content, out); err != nil {
		return fmt.Errorf("%s sent an answer that is not Patrol's: is this the address of a Patrol server?", c.base.Host)
	}
	return nil
}

// plain strips what net/http puts around an error: method and URL.
func plain(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return errors.New("no answer in time")
	}
	return err
}

// at joins path segments, escaping each: an id comes from whoever types it.
func at(segments ...string) string {
	var b strings.Builder
	for _, s := range segments {
		b.WriteString("/" + url.PathEscape(s))
	}
	return b.String()
}

// SignIn opens a session for a program and keeps its token in SessionToken.
func (c *Client) SignIn(ctx context.Context, email, password string) (Session, error) {
	return c.begin(ctx, SignIn{Email: email, Password: password, Transport: "bearer"})
}

// SignInWithCode opens a session, as [Client.SignIn] does, by a code from the page
// that signs programs in.
func (c *Client) SignInWithCode(ctx context.Context, code string) (Session, error) {
	return c.begin(ctx, SignIn{Code: code, Transport: "bearer"})
}

func (c *Client) begin(ctx context.Context, in SignIn) (Session, error) {
	var out Session
	if err := c.call(ctx, http.MethodPost, "/api/v1/session", nil, "", in, &out); err != nil {
		return Session{}, err
	}
	if out.SessionToken == "" {
		return Session{}, fmt.Errorf("%s opened a session but sent no token for it", c.base.Host)
	}
	c.SessionToken = out.SessionToken
	return out, nil
}

// Reauthenticate makes the session's sign-in fresh again. The server may give the
// session a new token, which is then in SessionToken and in the answer.
func (c *Client) Reauthenticate(ctx context.Context, password string) (Session, error) {
	var out Session
	if err := c.session(ctx, http.MethodPost, at("session", "reauthenticate"), nil, Reauthenticate{Password: password}, &out); err != nil {
		return Session{}, err
	}
	if out.SessionToken != "" {
		c.SessionToken = out.SessionToken
	}
	return out, nil
}

// SignOut ends the session.
func (c *Client) SignOut(ctx context.Context) error {
	return c.session(ctx, http.MethodDelete, "/session", nil, nil, nil)
}

// session calls a route of the API that a signed-in person may use.
func (c *Client) session(ctx context.Context, method, path string, query url.Values, in, out any) error {
	return c.call(ctx, method, "/api/v1"+path, query, c.SessionToken, in, out)
}

// Me returns who is signed in.
func (c *Client) Me(ctx context.Context) (Me, error) {
	var out Me
	err := c.session(ctx, http.MethodGet, "/me", nil, nil, &out)
	return out, err
}

// Catalog returns what can be asked for and granted.
func (c *Client) Catalog(ctx context.Context) (models.Catalog, error) {
	var out models.Catalog
	err := c.session(ctx, http.MethodGet, "/catalog", nil, nil, &out)
	return out, err
}

// CreatePAT makes a token. Its text is in the answer's Token, this once.
func (c *Client) CreatePAT(ctx context.Context, in NewPAT) (PAT, error) {
	var out PAT
	err := c.session(ctx, http.MethodPost, "/pats", nil, in, &out)
	return out, err
}

// PATFilter narrows a list of tokens. Its zero value narrows nothing.
type PATFilter struct {
	Status models.Status
	Name   string
}

// PATs returns the user's tokens, newest first, from all pages.
func (c *Client) PATs(ctx context.Context, filter PATFilter) ([]PAT, error) {
	query := url.Values{"limit": {"200"}}
	if filter.Status != "" {
		query.Set("status", string(filter.Status))
	}
	if filter.Name != "" {
		query.Set("name", filter.Name)
	}
	all := []PAT{}
	for {
		var page Page[PAT]
		if err := c.session(ctx, http.MethodGet, "/pats", query, nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.Next == nil || *page.Next == query.Get("after") {
			return all, nil
		}
		query.Set("after", *page.Next)
	}
}

// PAT returns one token.
func (c *Client) PAT(ctx context.Context, id string) (PAT, error) {
	var out PAT
	err := c.session(ctx, http.MethodGet, at("pats", id), nil, nil, &out)
	return out, err
}

// UpdatePAT changes a token's name or description.
func (c *Client) UpdatePAT(ctx context.Context, id string, patch PATPatch) (PAT, error) {
	var out PAT
	err := c.session(ctx, http.MethodPatch, at("pats", id), nil, patch, &out)
	return out, err
}

// RotatePAT replaces a token by one with a new secret, which is in the answer's
// Token, this once.
func (c *Client) RotatePAT(ctx context.Context, id string, in Rotation) (PAT, error) {
	var out PAT
	err := c.session(ctx, http.MethodPost, at("pats", id, "rotate"), nil, in, &out)
	return out, err
}

// AdvisePAT returns what a token could do without, going by the last days; 0: as
// many as the server takes for enough.
func (c *Client) AdvisePAT(ctx context.Context, id string, days int) (Advice, error) {
	query := url.Values{}
	if days > 0 {
		query.Set("days", strconv.Itoa(days))
	}
	var out Advice
	err := c.session(ctx, http.MethodGet, at("pats", id, "advice"), query, nil, &out)
	return out, err
}

// AdviceFilter says which tokens of all users [Client.AdviseAll] advises on. Empty
// fields do not narrow.
type AdviceFilter struct {
	Days      int    // 0: as many as the server takes for enough
	Owner     string // part of the owner's address
	Domain    string // a scope reaches it
	Uncertain bool   // tokens for which the log does not suffice, too
}

// AdviseAll returns which tokens of all users could do with less, from all pages.
func (c *Client) AdviseAll(ctx context.Context, filter AdviceFilter) (AdvicePage, error) {
	query := url.Values{"limit": {"200"}}
	if filter.Days > 0 {
		query.Set("days", strconv.Itoa(filter.Days))
	}
	for name, value := range map[string]string{"email": filter.Owner, "domain": filter.Domain} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if filter.Uncertain {
		query.Set("uncertain", "true")
	}
	var all AdvicePage
	for {
		var page AdvicePage
		if err := c.session(ctx, http.MethodGet, "/admin/advice", query, nil, &page); err != nil {
			return all, err
		}
		page.Items = append(all.Items, page.Items...)
		all = page
		if page.Next == nil || *page.Next == query.Get("after") {
			return all, nil
		}
		query.Set("after", *page.Next)
	}
}

// NarrowPAT leaves a token the given scopes, each within one that it has.
func (c *Client) NarrowPAT(ctx context.Context, id string, scopes []NewScope) (PAT, error) {
	var out PAT
	err := c.session(ctx, http.MethodPost, at("pats", id, "narrow"), nil, Narrowing{Scopes: scopes}, &out)
	return out, err
}

// RevokePAT ends a token. Ending a dead one again is no error.
func (c *Client) RevokePAT(ctx context.Context, id string) (PAT, error) {
	return c.RevokePATFor(ctx, id, "")
}

// RevokePATFor is [Client.RevokePAT] with a reason for the token's owner, if it is
// not "".
func (c *Client) RevokePATFor(ctx context.Context, id, reason string) (PAT, error) {
	var out PAT
	var body any
	if reason != "" {
		body = Revocation{Reason: reason}
	}
	err := c.session(ctx, http.MethodPost, at("pats", id, "revoke"), nil, body, &out)
	return out, err
}

// RevokePATEverywhere is [Client.RevokePATFor] that returns once no server can allow
// anything by the token any more, which takes some seconds if one of them does not
// answer.
func (c *Client) RevokePATEverywhere(ctx context.Context, id, reason string) (RevokedPAT, error) {
	var out RevokedPAT
	var body any
	if reason != "" {
		body = Revocation{Reason: reason}
	}
	err := c.session(ctx, http.MethodPost, at("pats", id, "revoke"), url.Values{"wait": {"all"}}, body, &out)
	return out, err
}

// RevokeAllPATs ends all tokens of the user.
func (c *Client) RevokeAllPATs(ctx context.Context) error {
	return c.session(ctx, http.MethodDelete, "/pats", url.Values{"all": {"true"}}, nil, nil)
}

// DeletePAT removes the record of a dead token.
func (c *Client) DeletePAT(ctx context.Context, id string) error {
	return c.session(ctx, http.MethodDelete, at("pats", id), nil, nil, nil)
}

// PurgePATs removes the records of dead tokens of the user.
func (c *Client) PurgePATs(ctx context.Context, olderThan string) (Purged, error) {
	return c.purge(ctx, "/pats/purge", Purge{OlderThan: olderThan})
}

// PurgeOthersPATs removes the records of dead tokens of anybody, for platform
// admins.
func (c *Client) PurgeOthersPATs(ctx context.Context, in Purge) (Purged, error) {
	return c.purge(ctx, "/admin/pats/purge", in)
}

// purge asks until nothing is left.
func (c *Client) purge(ctx context.Context, path string, in Purge) (Purged, error) {
	var all Purged
	for {
		var out Purged
		err := c.session(ctx, http.MethodPost, path, nil, in, &out)
		all.Purged, all.More = all.Purged+out.Purged, out.More
		if err != nil || !out.More {
			return all, err
		}
	}
}

// PolicyShadow returns the policy that is judged beside the one in force, and what
// it would have decided otherwise.
func (c *Client) PolicyShadow(ctx context.Context) (PolicyShadow, error) {
	var out PolicyShadow
	err := c.session(ctx, http.MethodGet, "/policy/shadow", nil, nil, &out)
	return out, err
}

// PromotePolicy puts the shadow in force, if it is still the one that was looked at.
func (c *Client) PromotePolicy(ctx context.Context, in PolicyPromotion) (Policy, error) {
	var out Policy
	err := c.session(ctx, http.MethodPost, "/policy/promote", nil, in, &out)
	return out, err
}

// Authorize asks whether the holder of the PAT may do what req says. A denial is
// an answer, not an error.
func (c *Client) Authorize(ctx context.Context, token string, req AuthorizeItem) (Decision, error) {
	var out Decision
	err := c.call(ctx, http.MethodPost, "/authorize", nil, token, req, &out)
	return out, err
}

// AuthorizeFull is [Client.Authorize] on what the database says now, whatever the
// server has cached. It takes longer.
func (c *Client) AuthorizeFull(ctx context.Context, token string, req AuthorizeItem) (Decision, error) {
	var out Decision
	err := c.call(ctx, http.MethodPost, "/authorize", nil, token, AuthorizeRequest{
		Consistency: ConsistencyFull, Domain: req.Domain, EntityType: req.EntityType, Entity: req.Entity, Operation: req.Operation, Context: req.Context,
	}, &out)
	return out, err
}

// AuthorizeBatch asks 1 to 1,000 questions about one PAT. The decisions come in
// the order of the questions.
func (c *Client) AuthorizeBatch(ctx context.Context, token string, reqs []AuthorizeItem) ([]Decision, error) {
	var out DecisionBatch
	if err := c.call(ctx, http.MethodPost, "/authorize/batch", nil, token, AuthorizeBatch{Requests: reqs}, &out); err != nil {
		return nil, err
	}
	if len(out.Decisions) != len(reqs) {
		return nil, fmt.Errorf("%s decided %d of %d requests", c.base.Host, len(out.Decisions), len(reqs))
	}
	return out.Decisions, nil
}
