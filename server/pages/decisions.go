package pages

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/manage"
	"patrol/server/ui"
)

// decisionPageRoutes are the pages about decisions that were made. The filter is sent
// as a form: what is pasted into it may be a token, which must not get into an address.
func (s *Surface) decisionPageRoutes() []endpoint.Route {
	return []endpoint.Route{
		{Method: "GET", Path: "/policy/decisions", By: endpoint.PolicyTeam, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageDecisions, Accepts: endpoint.Accepts{Query: []string{"user", "token", "domain", "outcome", "reason", "surface", "request", "revision", "since", "until", "after"}}},
		{Method: "POST", Path: "/policy/decisions", By: endpoint.PolicyTeam, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.formDecisions, Accepts: endpoint.Accepts{Form: []string{"user", "token", "domain", "outcome", "reason", "surface", "request", "revision", "period", "from", "to"}}},
		{Method: "GET", Path: ui.RefusalsPath, By: endpoint.PolicyTeam, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageRefusals, Accepts: endpoint.Accepts{Query: []string{"address", "reason", "after"}}},
		{Method: "GET", Path: "/policy/decisions/:decision", By: endpoint.PolicyTeam, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageDecision},
	}
}

const decisionsPage = "/policy/decisions"

// pageDecisions lists decisions; the address narrows it in the words of the API.
func (s *Surface) pageDecisions(c *gin.Context, p models.Principal) error {
	ctx, query := c.Request.Context(), c.Request.URL.Query()
	filter := ui.DecodeDecisionFilter(query)
	if !s.manage.HasLog() {
		return s.show(c, p, http.StatusOK, ui.Decisions{Off: true})
	}
	var v models.Invalid
	asked := endpoint.DecisionFilter(query, s.now(), &v)
	if err := v.Err(); err != nil {
		problems, _ := ui.ProblemsOf(err)
		return s.againDecisions(c, p, err, filter, problems)
	}
	found, next, err := s.manage.Decisions(ctx, asked, manage.Page{Limit: endpoint.DefaultPage, After: filter.After})
	if models.CodeOf(err) == models.CodeInvalid { // a cursor of another list: begin anew
		filter.After = ""
		return s.seeOther(c, decisionsPage+filter.Query(), "")
	}
	if err != nil {
		return err
	}
	users, tokens := []string{filter.User}, make([]string, len(found))
	for i, d := range found {
		users, tokens[i] = append(users, d.UserID), d.TokenID
	}
	emails, names, err := s.manage.Names(ctx, users, tokens)
	if err != nil {
		return err
	}
	page := ui.Decisions{Filter: filter, Next: next, UserName: emails[filter.User], Rows: make([]ui.DecisionRow, len(found))}
	for i, d := range found {
		page.Rows[i] = ui.DecisionRow{LoggedDecision: d, When: s.moment(d.At), Email: emails[d.UserID], TokenName: names[d.TokenID]}
	}
	if err := s.offerDecisions(ctx, &page); err != nil {
		return err
	}
	reach, err := s.manage.DecisionLog(ctx)
	if err != nil {
		return err
	}
	page.Reach = ui.NewLogReach(reach, s.now())
	return s.show(c, p, http.StatusOK, page)
}

// againDecisions shows a filter that cannot be followed.
func (s *Surface) againDecisions(c *gin.Context, p models.Principal, cause error, filter ui.DecisionFilter, problems ui.Problems) error {
	page := ui.Decisions{Filter: filter, Problems: problems}
	if err := s.offerDecisions(c.Request.Context(), &page); err != nil {
		return err
	}
	return s.again(c, p, cause, page)
}

// offerDecisions fills in what the filter offers to choose from.
func (s *Surface) offerDecisions(ctx context.Context, page *ui.Decisions) error {
	in, err := s.manage.InspectPolicy(ctx)
	if err != nil {
		return err
	}
	for _, r := range models.OwnReasons() {
		page.Codes = append(page.Codes, string(r.Code))
	}
	for _, r := range in.Rules {
		if r.Code != "" {
			page.Codes = append(page.Codes, r.Code)
		}
	}
	slices.Sort(page.Codes)
	page.Codes = slices.Compact(page.Codes)
	page.Known, err = s.manage.KeptRevisions(ctx)
	return err
}

// formDecisions leads to the list that was asked for. An address is replaced by the
// id of its user and a token by its own, before they become a part of an address.
func (s *Surface) formDecisions(c *gin.Context, p models.Principal) error {
	form, err := s.form(c)
	if err != nil {
		return err
	}
	filter, problems := ui.DecodeDecisionForm(form)
	for name, field := range map[string]*string{"user": &filter.User, "domain": &filter.Domain} {
		if models.MaskTokens(*field) != *field {
			*field = ""
			problems.Add(name, "is no place for a token")
		}
	}
	if strings.Contains(filter.User, "@") {
		user, err := s.manage.UserByEmail(c.Request.Context(), filter.User)
		if err != nil {
			return err
		}
		if user == nil {
			problems.Add("user", "has no account with this address")
		} else {
			filter.User = user.ID
		}
	}
	if strings.Contains(filter.Token, "_") { // no id has one
		token, err := models.ParseToken(filter.Token)
		if filter.Token = token.ID; err != nil {
			filter.Token = ""
			problems.Add("token", "is neither a whole token nor the id of one, the 16 characters after patrol_")
		}
	}
	if problems.Any() {
		return s.againDecisions(c, p, nil, filter, problems)
	}
	return s.seeOther(c, decisionsPage+filter.Query(), "")
}

// pageDecision explains one decision.
func (s *Surface) pageDecision(c *gin.Context, p models.Principal) error {
	ctx := c.Request.Context()
	d, err := s.manage.Decision(ctx, c.Param("decision"))
	if err != nil {
		return err
	}
	emails, names, err := s.manage.Names(ctx, []string{d.UserID}, []string{d.TokenID})
	if err != nil {
		return err
	}
	explained, err := s.manage.ExplainDecision(ctx, d)
	if err != nil {
		return err
	}
	row := ui.DecisionRow{LoggedDecision: d, When: s.moment(d.At), Email: emails[d.UserID], TokenName: names[d.TokenID]}
	return s.show(c, p, http.StatusOK, ui.NewDecision(row, explained))
}
