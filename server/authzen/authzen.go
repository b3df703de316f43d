package authzen

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/authz"
	"patrol/server/endpoint"
	"patrol/server/manage"
	"patrol/server/request"
)

// Config holds the settings of a [Surface].
type Config struct {
	MaxBodyBytes int64 // of a question; several may have 16 times as many
	// Domain is that of resources which do not name theirs; "": they have to.
	Domain string
	// Origin is the public URL if it is an https one; "": nothing is told about this server.
	Origin string
}

// maxEvaluations bounds the questions of one request, and maxBodies its body: this many of the
// longest that others may have.
const (
	maxEvaluations = 1000
	maxBodies      = 16
)

// surface labels the decisions that are made here, about the caller and about tokens that are
// shown in full.
const surface = "authzen"

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

// Routes are the routes of the standard.
func (s *Surface) Routes() []endpoint.Route {
	// The standard leaves the addresses to whoever composes them.
	asked := endpoint.Accepts{Body: endpoint.Object, Open: true}
	routes := []endpoint.Route{{
		Method: "GET", Path: "/.well-known/authzen-configuration", By: endpoint.Anyone, SignIn: endpoint.NoSession,
		Do: s.getMetadata, Accepts: endpoint.Accepts{Open: true},
	}}
	for _, r := range []struct {
		path   string
		answer func(*caller, message) (any, error)
	}{
		{"/access/v1/evaluation", s.evaluation},
		{"/access/v1/evaluations", s.evaluations},
		{"/access/v1/search/subject", s.searchSubjects},
		{"/access/v1/search/resource", s.searchResources},
		{"/access/v1/search/action", s.searchActions},
	} {
		routes = append(routes, endpoint.Route{
			Method: "POST", Path: r.path, By: endpoint.TokenHolder, SignIn: endpoint.NoSession, Do: s.answering(r.answer), Accepts: asked,
		})
	}
	return routes
}

func (s *Surface) getMetadata(c *gin.Context, _ models.Principal) error {
	base := s.cfg.Origin
	if base == "" {
		return models.NewError(models.CodeNotFound, "this server has no public https address to publish; see the setting public_url")
	}
	request.WriteJSON(c.Writer, http.StatusOK, api.AccessMetadata{
		PolicyDecisionPoint: base,
		Evaluation:          base + "/access/v1/evaluation",
		Evaluations:         base + "/access/v1/evaluations",
		SearchSubject:       base + "/access/v1/search/subject",
		SearchResource:      base + "/access/v1/search/resource",
		SearchAction:        base + "/access/v1/search/action",
	})
	return nil
}

// caller is the service that asks, within one request.
type caller struct {
	*Surface

	ctx   context.Context //nolint:containedctx // lives for one request
	call  authz.Call
	may   map[string]models.Decision // by domain: whether it may ask about resources there
	users map[string]*models.User    // those that were looked up
}

// refused says that the caller may not ask.
type refused struct {
	decision models.Decision
	asked    models.Request
}

func (*refused) Error() string { return "the caller may not ask about this domain" }

// answering verifies the caller's token, reads the question, and writes the answer.
func (s *Surface) answering(answer func(*caller, message) (any, error)) func(*gin.Context, models.Principal) error {
	return func(c *gin.Context, _ models.Principal) error {
		// The standard has the caller's id back, whatever it looks like (section 10.1.3).
		if sent := c.Request.Header["X-Request-Id"]; len(sent) == 1 {
			c.Writer.Header()["X-Request-Id"] = sent
		}
		x := request.Of(c.Request.Context())
		cred := request.CredentialOf(c.Request.Header)
		if cred.Kind == request.RepeatedCredential {
			return models.NewError(models.CodeMalformed, request.TwoAuthorizations)
		}
		k := &caller{
			Surface: s, ctx: c.Request.Context(), may: map[string]models.Decision{}, users: map[string]*models.User{},
			call: authz.Call{Surface: surface, RequestID: x.ID, IP: x.Client, UserAgent: models.MaskTokens(c.Request.UserAgent())},
		}
		if cred.Kind == request.AccessCredential || cred.Kind == request.SessionCredential {
			k.call.Token = cred.Token
		}
		if _, d, ok := s.authz.Begin(k.ctx, k.call); !ok {
			request.WriteDenied(c.Writer, c.Request, d, models.Request{})
			return nil
		}
		m, err := readMessage(c.Writer, c.Request, maxBodies*s.cfg.MaxBodyBytes)
		if err != nil {
			return err
		}
		if err := x.EnterToDecide(k.call.Token, s.authz.Verified); err != nil {
			return err
		}
		out, err := answer(k, m)
		if why, ok := err.(*refused); ok { //nolint:errorlint // it is never wrapped
			request.WriteDenied(c.Writer, c.Request, why.decision, why.asked)
			return nil
		}
		if err != nil {
			return err
		}
		request.WriteJSON(c.Writer, http.StatusOK, out)
		return nil
	}
}

// mayAsk returns nil if the caller may ask about resources of a domain, as the policy judges.
// A domain that does not exist is not the caller's fault: what is asked is denied for it.
func (k *caller) mayAsk(domain string) *refused {
	call := k.call
	call.Request = authz.AskingAbout(domain)
	d, known := k.may[domain]
	if !known {
		d = k.authz.Authorize(k.ctx, call)
		k.may[domain] = d
	}
	if d.Allowed || len(d.Reasons) == 1 && d.Has(models.DomainUnknown) {
		return nil
	}
	return &refused{d, call.Request}
}

// user returns the user whom a subject names, nil if there is none.
func (k *caller) user(id string) (*models.User, error) {
	if u, known := k.users[id]; known {
		return u, nil
	}
	u, err := k.manage.FindUser(k.ctx, id)
	if err != nil {
		return nil, err
	}
	k.users[id] = u
	return u, nil
}

// The types of subjects.
const (
	userSubject  = "user"
	tokenSubject = "pat"
)

// ask has the policy decide a question. It may be refused, or invalid.
func (k *caller) ask(q question) (api.AccessDecision, error) {
	var v models.Invalid
	domain := q.domain(k.cfg.Domain, &v)
	if err := wrong(&v); err != nil {
		return api.AccessDecision{}, err
	}
	req := q.request(domain)
	for _, part := range []struct{ field, value string }{{"resource.type", req.EntityType}, {"resource.id", req.Entity}, {"action.name", req.Operation}, {"resource.properties.domain", domain}} {
		if !models.IsEntity(part.value) {
			v.Add(part.field, "must be at most 256 printable ASCII characters without space, quote or backslash")
		}
	}
	if err := wrong(&v); err != nil {
		return api.AccessDecision{}, err
	}
	if why := k.mayAsk(domain); why != nil {
		return api.AccessDecision{}, why
	}
	call := k.call
	call.Token, call.Request = "", req
	// Whoever asks is not whom it is about: nobody knows that address.
	call.Client = &models.Client{}
	switch q.subject.kind {
	case userSubject:
		u, err := k.user(q.subject.id)
		if err != nil {
			return api.AccessDecision{}, err
		}
		about := authz.About{}
		if u != nil {
			about.UserID = u.ID
		}
		return decided(k.authz.Inquire(k.ctx, call, about)), nil
	case tokenSubject:
		if _, err := models.ParseToken(q.subject.id); err == nil {
			call.Token = q.subject.id
			return decided(authz.Answer{Decision: k.authz.Authorize(k.ctx, call)}), nil
		}
		if models.IsTokenID(q.subject.id) {
			return decided(k.authz.Inquire(k.ctx, call, authz.About{TokenID: q.subject.id})), nil
		}
		return decided(authz.Answer{Decision: models.Deny(models.TokenUnknown)}), nil
	default:
		return failed(http.StatusNotFound, "there are no subjects of this type; there are user and pat"), nil
	}
}

// decided is a decision in the form of the standard.
func decided(a authz.Answer) api.AccessDecision {
	return api.AccessDecision{Decision: a.Allowed, Context: &api.AccessContext{
		DecisionID: a.ID, Status: a.Status(), Reasons: a.Reasons, UserID: a.UserID, TokenID: a.TokenID, Revision: a.Revision,
		Labels: a.Labels, Waived: api.WaivedOf(a.Waived), DependsOn: a.DependsOn,
	}}
}

// failed denies what could not be judged (section 7.2.1).
func failed(status int, message string) api.AccessDecision {
	return api.AccessDecision{Context: &api.AccessContext{Error: &api.AccessError{Status: status, Message: message}}}
}

func (s *Surface) evaluation(k *caller, m message) (any, error) {
	var v models.Invalid
	q := readQuestion(m, nothing, &v)
	if err := wrong(&v); err != nil {
		return nil, err
	}
	return answerOf(k.ask(q))
}

// answerOf leaves out an answer that came with an error.
func answerOf[T any](answer T, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// evaluations answers several questions in their order, up to the one that the semantic stops
// at. What is wrong with one of them denies that one.
func (s *Surface) evaluations(k *caller, m message) (any, error) {
	var v models.Invalid
	how := readSemantic(m.Options, &v)
	items := readItems(m, &v)
	if err := wrong(&v); err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return s.evaluation(k, m)
	}
	out := api.AccessDecisions{Evaluations: make([]api.AccessDecision, 0, len(items))}
	var first *refused
	asked := false
	for _, item := range items {
		d, why, err := k.item(item)
		if err != nil {
			return nil, err
		}
		if asked = asked || why == nil; why != nil && first == nil {
			first = why
		}
		out.Evaluations = append(out.Evaluations, d)
		if how == denyOnFirstDeny && !d.Decision || how == permitOnFirstAllow && d.Decision {
			break
		}
	}
	if !asked {
		return nil, first
	}
	return out, nil
}

// item decides one question of several. Only a failure of the server is an error.
func (k *caller) item(m *message) (d api.AccessDecision, why *refused, err error) {
	if m == nil {
		return failed(http.StatusBadRequest, "an evaluation must be an object"), nil, nil
	}
	var v models.Invalid
	q := readQuestion(*m, nothing, &v)
	err = wrong(&v)
	if err == nil {
		d, err = k.ask(q)
	}
	switch e := err.(type) { //nolint:errorlint // they are never wrapped
	case nil:
		return d, nil, nil
	case *refused:
		return failed(e.decision.Status(), "the caller's token may not ask about this domain"), e, nil
	case *models.Error:
		if e.Code == models.CodeMalformed {
			return failed(http.StatusBadRequest, e.Fields[0].Field+" "+e.Fields[0].Message), nil, nil
		}
	}
	return d, nil, err
}
