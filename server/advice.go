package server

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
	"patrol/server/ui"
)

// adviceRoutes are about what tokens could do without.
var adviceRoutes = []route{
	{method: "GET", path: "/api/v1/pats/:id/advice", by: owner, do: (*Server).getAdvice, accepts: accepts{query: []string{"days"}}},
	{method: "GET", path: "/api/v1/admin/advice", by: policyTeam, do: (*Server).getAdviceOnAll, accepts: accepts{query: with("days", "user_id", "owner", "domain", "uncertain")}},
	{method: "GET", path: "/policy/advice", by: policyTeam, page: true, do: (*Server).pageAdvice, accepts: accepts{query: []string{"days", "domain", "uncertain", "after"}}},
	{method: "POST", path: "/api/v1/pats/:id/narrow", by: owner, do: (*Server).postNarrow, accepts: accepts{body: object}},
	{method: "POST", path: "/profile/pats/:id/narrow", by: owner, page: true, do: (*Server).formNarrowAll, accepts: accepts{lists: []string{"scope"}}},
}

const (
	adviceDays    = 30 // unless something else is asked for
	maxAdviceDays = 366
)

// Advise says which scopes of a token of p were not used in that many days, and
// which could be narrower.
func (s *Server) Advise(ctx context.Context, p models.Principal, id string, days int) (api.Advice, error) {
	pat, err := s.PAT(ctx, p, id)
	if err != nil {
		return api.Advice{}, err
	}
	return s.advise(ctx, pat, days)
}

func (s *Server) advise(ctx context.Context, pat models.PAT, days int) (api.Advice, error) {
	period, err := s.advicePeriod(ctx, days)
	if err != nil {
		return api.Advice{}, err
	}
	used, err := s.decided.UsedScopes(ctx, []string{pat.ID}, period.since)
	if err != nil {
		return api.Advice{}, err
	}
	u := used[pat.ID]
	advice, needed := models.Advise(pat, u.Scopes, !u.More, s.cfg.Limits.MaxScopes)
	return period.advice(pat, advice, needed), nil
}

// advicePeriod is how far back advice looks, and what is known of that time.
type advicePeriod struct {
	days     int
	since    time.Time
	coverage api.LogCoverage
}

func (s *Server) advicePeriod(ctx context.Context, days int) (advicePeriod, error) {
	if s.decided == nil {
		return advicePeriod{}, errNoDecisionLog
	}
	since := s.now().UTC().Add(-time.Duration(days) * 24 * time.Hour)
	coverage, err := s.coverage(ctx, models.DayOf(since))
	return advicePeriod{days, since, coverage}, err
}

// known reports whether the log covers all of the period and nothing was lost.
func (p advicePeriod) known() bool {
	return p.coverage.From != nil && !p.coverage.From.After(models.DayOf(p.since)) && p.coverage.Lost == 0
}

// advice puts what the scopes of a token were used for in the form of the API.
func (p advicePeriod) advice(pat models.PAT, advice []models.ScopeAdvice, needed []models.Scope) api.Advice {
	out := api.Advice{
		TokenID: pat.ID, Name: pat.Name, Days: p.days, Coverage: p.coverage, Enough: p.known() && !pat.CreatedAt.After(p.since),
		Scopes: make([]api.ScopeAdvice, len(advice)), Unused: len(needed) == 0, Narrowed: []api.NewScope{},
	}
	if from := p.coverage.From; from != nil && pat.CreatedAt.After(*from) {
		created := pat.CreatedAt.UTC()
		out.Coverage.From = &created
	}
	for i, a := range advice {
		one := &out.Scopes[i]
		*one = api.ScopeAdvice{Scope: api.Scope(a.Scope), Uses: a.Uses, LastUsedAt: a.LastAt, Do: "keep"}
		switch {
		case a.Keep:
		case len(a.Narrowed) == 0:
			one.Do = "remove"
		default:
			one.Do, one.To = "narrow", newScopes(a.Narrowed)
		}
	}
	if unused, wide := models.CountAdvice(advice); unused+wide > 0 && !out.Unused {
		out.Narrowed = newScopes(needed)
	}
	return out
}

// AdviceSearch says which tokens of all users are advised on.
type AdviceSearch struct {
	Days   int
	UserID string
	Owner  string // part of the owner's address
	Domain string // a scope of the token reaches it
	// Uncertain also takes what the log does not suffice for: tokens that were made
	// within the period, and all of them if the log does not cover it.
	Uncertain bool
}

// AdviseAll lists the live tokens of all users that could do with less, those with
// the most unused scopes first.
func (s *Server) AdviseAll(ctx context.Context, f AdviceSearch, page store.Page) (api.AdvicePage, error) {
	period, err := s.advicePeriod(ctx, f.Days)
	if err != nil {
		return api.AdvicePage{}, err
	}
	out := api.AdvicePage{Days: f.Days, Coverage: period.coverage, Enough: period.known()}
	out.Items = []api.OwnedAdvice{}
	if !out.Enough && !f.Uncertain {
		return out, nil // nobody's scope is unused for all that is known
	}
	found, next, totals, err := s.store.AdvisePATs(ctx, s.decided, store.AdviceSearch{
		UserID: f.UserID, Email: f.Owner, Domain: f.Domain, Since: period.since, Young: f.Uncertain,
	}, page)
	if err != nil {
		return api.AdvicePage{}, err
	}
	for _, a := range found {
		one := api.OwnedAdvice{
			Advice: period.advice(a.PAT, a.Scopes, a.Needed), UserID: a.UserID, Email: a.Email,
			CreatedAt: a.CreatedAt.UTC(), ExpiresAt: s.counted(a.PAT).ExpiresAt.UTC(), LastUsedAt: utc(a.LastUsedAt),
		}
		one.UnusedScopes, one.WideScopes = models.CountAdvice(a.Scopes)
		out.Items = append(out.Items, one)
	}
	if next != "" {
		out.Next = &next
	}
	out.Tokens = api.AdviceTotals{Judged: totals.Judged, TooYoung: totals.Young, Narrowable: totals.Narrowable, Unused: totals.Unused}
	return out, nil
}

func newScopes(scopes []models.Scope) []api.NewScope {
	out := make([]api.NewScope, len(scopes))
	for i, sc := range scopes {
		out[i] = api.NewScope{Domain: sc.Domain, EntityType: sc.EntityType, Entity: sc.Entity, Operation: sc.Operation}
	}
	return out
}

// NarrowPAT leaves a token of p some of what it may do.
func (s *Server) NarrowPAT(ctx context.Context, p models.Principal, id string, in api.Narrowing) (models.PAT, error) {
	scopes := make([]models.Scope, len(in.Scopes))
	for i, sc := range in.Scopes {
		scopes[i] = newScope(sc)
	}
	return s.store.NarrowPAT(ctx, p.Actor, p.User.ID, id, scopes)
}

// readDays reads how far back advice is to look.
func readDays(query url.Values, v *models.Invalid) int {
	text := query.Get("days")
	if text == "" {
		return adviceDays
	}
	days, err := strconv.Atoi(text)
	if err != nil || days < 1 || days > maxAdviceDays {
		v.Add("days", "must be a whole number from 1 to %d", maxAdviceDays)
		return adviceDays
	}
	return days
}

func (s *Server) getAdviceOnAll(c *gin.Context, _ models.Principal) error {
	query := c.Request.URL.Query()
	var v models.Invalid
	search := AdviceSearch{Days: readDays(query, &v), UserID: query.Get("user_id"), Owner: query.Get("owner"), Domain: query.Get("domain")}
	switch query.Get("uncertain") {
	case "", "false":
	case "true":
		search.Uncertain = true
	default:
		v.Add("uncertain", "must be true or false")
	}
	page := readPage(query, &v)
	if err := v.Err(); err != nil {
		return err
	}
	out, err := s.AdviseAll(c.Request.Context(), search, page)
	if err != nil {
		return err
	}
	writeJSON(c.Writer, http.StatusOK, out)
	return nil
}

func (s *Server) getAdvice(c *gin.Context, p models.Principal) error {
	var v models.Invalid
	days := readDays(c.Request.URL.Query(), &v)
	if err := v.Err(); err != nil {
		return err
	}
	out, err := s.Advise(c.Request.Context(), p, c.Param("id"), days)
	if err != nil {
		return err
	}
	writeJSON(c.Writer, http.StatusOK, out)
	return nil
}

func (s *Server) postNarrow(c *gin.Context, p models.Principal) error {
	var in api.Narrowing
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	pat, err := s.NarrowPAT(c.Request.Context(), p, c.Param("id"), in)
	return s.answerPAT(c, pat, err)
}

// activity is what a token's page tells of its decisions; nil if no log is kept.
func (s *Server) activity(ctx context.Context, p models.Principal, pat models.PAT) (*ui.Activity, error) {
	summary, err := s.PATDecisions(ctx, p, pat.ID)
	if errors.Is(err, errNoDecisionLog) {
		return nil, nil //nolint:nilnil // none is one of the answers
	}
	if err != nil {
		return nil, err
	}
	advice, err := s.advise(ctx, pat, adviceDays)
	if err != nil {
		return nil, err
	}
	counted := s.counted(pat)
	alive := counted.Status(s.now()) == models.StatusActive
	return ui.NewActivity(summary, advice, alive && pat.RotatedTo == "", s.now()), nil
}

// formNarrowAll takes the advice that the page showed, if it still stands.
func (s *Server) formNarrowAll(c *gin.Context, p models.Principal) error {
	_, token, err := s.patShown(c, p)
	if err != nil {
		return err
	}
	form, err := s.form(c)
	if err != nil {
		return err
	}
	in, err := ui.DecodeNarrowing(form)
	if err == nil {
		_, err = s.NarrowPAT(c.Request.Context(), p, token.ID, in)
	}
	switch models.CodeOf(err) {
	case "":
		return s.seeOther(c, token.Link(), "The token can do what it was used for, and nothing else.")
	case models.CodeInvalid, models.CodeConflict:
		return s.seeOther(c, token.Link(), "The token has changed meanwhile. Look at it again.")
	}
	return err
}

func (s *Server) pageAdvice(c *gin.Context, p models.Principal) error {
	query := c.Request.URL.Query()
	if err := ui.CheckAdviceFilter(query); err != nil {
		return err
	}
	filter := ui.DecodeAdviceFilter(query)
	found, err := s.AdviseAll(c.Request.Context(), AdviceSearch{
		Days: filter.Days, Domain: filter.Domain, Uncertain: filter.Uncertain,
	}, store.Page{Limit: defaultPage, After: filter.After})
	if errors.Is(err, errNoDecisionLog) {
		return s.show(c, p, http.StatusOK, ui.NoAdvice())
	}
	if models.CodeOf(err) == models.CodeInvalid { // a cursor of another list: begin anew
		return s.seeOther(c, ui.AdvicePath, "")
	}
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.Advised(found, filter, p.User.Admin, s.now()))
}
