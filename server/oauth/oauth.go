// Package oauth answers services and clients that speak OAuth 2: whether a token is good
// (RFC 7662), that it is to be revoked (RFC 7009), and where to ask (RFC 8414).
//
// A service that asks about tokens shows one of its own, whose scope covers
// `<domain>:decisions:*:evaluate`: as Bearer, or as the secret of Basic or of the form. It is told
// the scopes that work now in the domains which it may ask about, as the policy in force judges
// each of them. Whoever holds a token may revoke it.
package oauth

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"patrol/models"
	"patrol/server/authz"
	"patrol/server/endpoint"
	"patrol/server/manage"
	"patrol/server/request"
)

// Config holds the settings of a [Surface].
type Config struct {
	MaxBodyBytes int64 // of a form
	// Origin is the public URL if it is an https one; "": nothing is told about this server.
	Origin string
}

// surface labels the decisions that are made here.
const surface = "oauth"

// Deps has the parts that a [Surface] uses. All are required.
type Deps struct {
	Manage *manage.Service
	Authz  *authz.Authorizer
}

// Surface answers. It is safe for concurrent use.
type Surface struct {
	cfg    Config
	manage *manage.Service
	authz  *authz.Authorizer
}

// New returns a surface.
func New(cfg Config, deps Deps) *Surface {
	return &Surface{cfg: cfg, manage: deps.Manage, authz: deps.Authz}
}

// Routes are the routes of the standards.
func (s *Surface) Routes() []endpoint.Route {
	posted := endpoint.Accepts{Body: endpoint.Object, Open: true}
	return []endpoint.Route{
		{Method: "POST", Path: "/oauth/introspect", By: endpoint.TokenHolder, SignIn: endpoint.NoSession, Do: s.postIntrospect, Accepts: posted},
		{Method: "POST", Path: "/oauth/revoke", By: endpoint.TokenHolder, SignIn: endpoint.NoSession, Do: s.postRevoke, Accepts: posted},
		{Method: "GET", Path: "/.well-known/oauth-authorization-server", By: endpoint.Anyone, SignIn: endpoint.NoSession, Do: s.getMetadata, Accepts: endpoint.Accepts{Open: true}},
	}
}

// metadata holds the members of RFC 8414 §2 that apply.
type metadata struct {
	Issuer               string   `json:"issuer"`
	Introspection        string   `json:"introspection_endpoint"`
	IntrospectionMethods []string `json:"introspection_endpoint_auth_methods_supported"`
	Revocation           string   `json:"revocation_endpoint"`
	RevocationMethods    []string `json:"revocation_endpoint_auth_methods_supported"`
	ResponseTypes        []string `json:"response_types_supported"` // required; there are none
	GrantTypes           []string `json:"grant_types_supported"`
}

func (s *Surface) getMetadata(c *gin.Context, _ models.Principal) error {
	base := s.cfg.Origin
	if base == "" {
		return models.NewError(models.CodeNotFound, "this server has no public https address to publish; see the setting public_url")
	}
	request.WriteJSON(c.Writer, http.StatusOK, metadata{
		Issuer: base, Introspection: base + "/oauth/introspect", IntrospectionMethods: []string{"client_secret_basic", "client_secret_post"},
		Revocation: base + "/oauth/revoke", RevocationMethods: []string{"none"}, ResponseTypes: []string{}, GrantTypes: []string{},
	})
	return nil
}

// refusal is an error in the form of RFC 6749 §5.2.
type refusal struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

// The errors of the standards.
const (
	invalidRequest       = "invalid_request"
	invalidClient        = "invalid_client"
	unsupportedTokenType = "unsupported_token_type" // RFC 7009 §2.2.1
	temporarily          = "temporarily_unavailable"
)

func refuse(c *gin.Context, status int, code, description string) error {
	if status == http.StatusServiceUnavailable {
		c.Writer.Header().Set("Retry-After", "1")
	}
	request.WriteJSON(c.Writer, status, refusal{code, description})
	return nil
}

// formError is the error of a form that cannot be read; its text is for the caller.
type formError string

func (e formError) Error() string { return string(e) }

// readForm reads the body. Parameters that nobody knows are ignored, and none may be there
// twice (RFC 6749 §3.2).
func (s *Surface) readForm(c *gin.Context) (url.Values, error) {
	media, _, err := mime.ParseMediaType(c.Request.Header.Get("Content-Type"))
	if err != nil || media != "application/x-www-form-urlencoded" {
		return nil, formError("send the parameters as application/x-www-form-urlencoded")
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, s.cfg.MaxBodyBytes))
	if _, over := errors.AsType[*http.MaxBytesError](err); over || c.Request.ContentLength > s.cfg.MaxBodyBytes {
		return nil, endpoint.TooLarge(s.cfg.MaxBodyBytes)
	}
	if err != nil {
		return nil, formError("the body could not be read to its end")
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, formError("the form could not be read")
	}
	for _, name := range []string{"token", "token_type_hint", "client_id", "client_secret"} {
		if len(form[name]) > 1 {
			return nil, formError(name + " is there more than once")
		}
	}
	if form.Get("token") == "" {
		return nil, formError("token is required")
	}
	return form, nil
}

// formFailed answers a form that could not be read.
func formFailed(c *gin.Context, err error) error {
	if e, ok := errors.AsType[formError](err); ok {
		return refuse(c, http.StatusBadRequest, invalidRequest, string(e))
	}
	return err
}

// caller is the service that asks.
type caller struct {
	token string
	basic bool // it came with Basic, whose scheme a challenge has to name
	form  bool // it came in the form
}

// callerOf reads who asks. problem says why nobody can tell, "" if somebody can. There is one way
// to say it in a request (RFC 6749 §2.3).
func callerOf(r *http.Request, form url.Values) (k caller, problem string) {
	cred := request.CredentialOf(r.Header)
	if cred.Kind == request.RepeatedCredential {
		return k, request.TwoAuthorizations
	}
	id, secret, basic := r.BasicAuth()
	if basic { // both parts are encoded as in a form (RFC 6749 §2.3.1)
		var err error
		if secret, err = url.QueryUnescape(secret); err != nil || id == "" {
			return k, "the client's id and secret could not be read"
		}
		k = caller{token: secret, basic: true}
	}
	bearer := cred.Kind == request.AccessCredential || cred.Kind == request.SessionCredential
	if bearer {
		k = caller{token: cred.Token}
	}
	if said := form.Get("client_secret"); said != "" {
		if bearer || basic {
			return k, "the client is named in more than one way"
		}
		k = caller{token: said, form: true}
	}
	return k, ""
}

// challenge is that of RFC 6749 §5.2 and RFC 6750 §3.
func (k caller) challenge(d models.Decision, asked models.Request) string {
	if k.basic {
		return `Basic realm="patrol"`
	}
	if challenge := d.Challenge(asked); challenge != "" {
		return challenge
	}
	return request.Challenge
}

func (s *Surface) callOf(c *gin.Context, token string) authz.Call {
	x := request.Of(c.Request.Context())
	return authz.Call{Token: token, Surface: surface, RequestID: x.ID, IP: x.Client, UserAgent: models.MaskTokens(c.Request.UserAgent())}
}

// denied answers a service that may not ask.
func (k caller) denied(c *gin.Context, d models.Decision, asked models.Request) error {
	status := d.Status()
	if status == http.StatusServiceUnavailable {
		return refuse(c, status, temporarily, "a part of Patrol that this needs does not answer; try again shortly")
	}
	c.Writer.Header().Set("WWW-Authenticate", k.challenge(d, asked))
	if status == http.StatusUnauthorized {
		return refuse(c, status, invalidClient, d.Reasons[0].Message)
	}
	return refuse(c, status, "insufficient_scope", "the token of the service does not allow it to ask: "+d.Reasons[0].Message)
}

// introspection is an answer of RFC 7662 §2.2.
type introspection struct {
	Active    bool   `json:"active"`
	Scope     string `json:"scope,omitempty"`
	ClientID  string `json:"client_id,omitempty"`
	Username  string `json:"username,omitempty"`
	TokenType string `json:"token_type,omitempty"`
	Expires   int64  `json:"exp,omitzero"`
	Issued    int64  `json:"iat,omitzero"`
	Subject   string `json:"sub,omitempty"`
	Issuer    string `json:"iss,omitempty"`
	ID        string `json:"jti,omitempty"`
}

func (s *Surface) postIntrospect(c *gin.Context, _ models.Principal) error {
	ctx := c.Request.Context()
	form, err := s.readForm(c)
	if err != nil {
		return formFailed(c, err)
	}
	k, problem := callerOf(c.Request, form)
	if problem != "" {
		return refuse(c, http.StatusBadRequest, invalidRequest, problem)
	}
	call := s.callOf(c, k.token)
	own, d, ok := s.authz.Introspect(ctx, call)
	if !ok {
		return k.denied(c, d, models.Request{})
	}
	if err := request.Of(ctx).EnterToDecide(k.token, s.authz.Verified); err != nil {
		return err
	}
	domains, d, ok := s.domainsOf(c, call, own)
	if !ok {
		return k.denied(c, d, call.Request)
	}
	shown := s.callOf(c, form.Get("token"))
	pat, d, ok := s.authz.Introspect(ctx, shown)
	switch {
	case !ok && d.Status() == http.StatusServiceUnavailable:
		return refuse(c, d.Status(), temporarily, "a part of Patrol that this needs does not answer; try again shortly")
	case !ok:
		request.WriteJSON(c.Writer, http.StatusOK, introspection{})
		return nil
	}
	out, err := s.introspect(c, pat, domains)
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, out)
	return nil
}

// asks says about which domains a service may ask.
type asks struct {
	any   bool // by a scope for any domain; each is judged when it comes up
	known map[string]bool
	judge func(domain string) bool
}

func (a *asks) about(domain string) bool {
	may, known := a.known[domain]
	if !known && a.any {
		may = a.judge(domain)
		a.known[domain] = may
	}
	return may
}

// domainsOf returns about which domains a service may ask. ok is false if about none; d says why.
func (s *Surface) domainsOf(c *gin.Context, call authz.Call, own models.PAT) (a *asks, d models.Decision, ok bool) {
	asked := authz.AskingAbout("")
	a = &asks{known: map[string]bool{}, judge: func(domain string) bool {
		call := call
		call.Request = authz.AskingAbout(domain)
		return s.authz.Authorize(c.Request.Context(), call).Allowed
	}}
	d = models.DenyFor(models.Reason{Code: models.OutOfScope, Message: "It has no scope for decisions:*:evaluate in any domain."})
	for _, sc := range own.Scopes {
		if sc.EntityType != asked.EntityType || sc.Entity != asked.Entity || sc.Operation != asked.Operation {
			continue
		}
		if sc.Domain == models.Any {
			a.any, ok = true, true
			continue
		}
		call.Request = authz.AskingAbout(sc.Domain)
		judged := s.authz.Authorize(c.Request.Context(), call)
		a.known[sc.Domain] = judged.Allowed
		if ok = ok || judged.Allowed; !judged.Allowed {
			d = judged
		}
	}
	return a, d, ok
}

// introspect has the policy judge each scope of a token in the domains that the service may ask
// about. One for any domain is told as one for each of them.
func (s *Surface) introspect(c *gin.Context, pat models.PAT, may *asks) (out introspection, err error) {
	ctx := c.Request.Context()
	owner, err := s.manage.FindUser(ctx, pat.UserID)
	if err != nil || owner == nil {
		return out, err
	}
	names, err := s.reached(c, pat, owner, may)
	if err != nil {
		return out, err
	}
	examined := s.authz.Examine().Token(pat, owner)
	reached := false
	var scopes []string
	for name := range names {
		if !may.about(name) {
			continue
		}
		in := pat.ScopesIn(name)
		if len(in) == 0 {
			continue
		}
		reached = true
		domain, err := s.manage.FindDomain(ctx, name)
		if err != nil {
			return out, err
		}
		member, err := s.manage.FindMembership(ctx, owner.ID, name)
		if err != nil {
			return out, err
		}
		for _, sc := range in {
			entity := sc.Entity
			if sc.EntityType == "domains" && entity == models.Any {
				entity = name // the domain itself is all that there is of this type
			}
			req := models.Request{Domain: name, EntityType: sc.EntityType, Entity: entity, Operation: sc.Operation}
			if text := req.Scope(); !slices.Contains(scopes, text) && examined.May(ctx, req, domain, member).Allowed {
				scopes = append(scopes, text)
			}
		}
	}
	if !reached {
		return out, nil
	}
	slices.Sort(scopes)
	return introspection{
		Active: true, Scope: strings.Join(scopes, " "), ClientID: pat.ID, Username: owner.Email, TokenType: "Bearer",
		Expires: pat.ExpiresAt.Unix(), Issued: pat.CreatedAt.Unix(), Subject: owner.ID, Issuer: s.cfg.Origin, ID: pat.ID,
	}, nil
}

// reached returns the domains that a token's scopes reach: those that they name, and for a scope
// for any domain those that the service may ask about by name and those of the owner.
func (s *Surface) reached(c *gin.Context, pat models.PAT, owner *models.User, may *asks) (map[string]bool, error) {
	ctx := c.Request.Context()
	names, anywhere := map[string]bool{}, false
	for _, sc := range pat.Scopes {
		if anywhere = anywhere || sc.Domain == models.Any; sc.Domain != models.Any {
			names[sc.Domain] = true
		}
	}
	if !anywhere {
		return names, nil
	}
	for name := range may.known {
		names[name] = true
	}
	memberships, err := s.manage.FindMemberships(ctx, owner.ID)
	if err != nil {
		return nil, err
	}
	for _, m := range memberships {
		names[m.Domain] = true
	}
	if !owner.Admin || !may.any {
		return names, nil
	}
	domains, err := s.manage.FindDomains(ctx) // a platform admin need not be a member
	for _, d := range domains {
		names[d.ID] = true
	}
	return names, err
}

// postRevoke revokes a token, which whoever holds it may (RFC 7009). One that is no good any
// more, or never was, is answered in the same way (§2.2).
func (s *Surface) postRevoke(c *gin.Context, _ models.Principal) error {
	ctx, x := c.Request.Context(), request.Of(c.Request.Context())
	form, err := s.readForm(c)
	if err != nil {
		return formFailed(c, err)
	}
	text := form.Get("token")
	if strings.HasPrefix(text, models.BearerPrefix) {
		return refuse(c, http.StatusBadRequest, unsupportedTokenType, "this is the token of a session; end it by signing out")
	}
	if err := x.EnterToDecide(text, s.authz.Verified); err != nil {
		return err
	}
	if _, d, ok := s.authz.Begin(ctx, s.callOf(c, text)); !ok {
		if d.Status() == http.StatusServiceUnavailable {
			return refuse(c, d.Status(), temporarily, "a part of Patrol that this needs does not answer; try again shortly")
		}
		c.Status(http.StatusOK)
		return nil
	}
	token, err := models.ParseToken(text)
	if err != nil {
		return err // Begin would have refused it
	}
	pat, err := s.manage.FindPAT(ctx, token.ID)
	if err != nil {
		return err
	}
	if pat != nil && pat.RevokedAt == nil {
		p := models.Principal{User: models.User{ID: pat.UserID}, PAT: pat, Actor: x.Actor(models.ActorToken, pat.UserID, pat.ID)}
		if err := s.manage.RevokeItself(ctx, p); err != nil {
			return err
		}
	}
	c.Status(http.StatusOK)
	return nil
}
