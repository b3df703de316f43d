package pages

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/ui"
)

// historyPageRoutes are the pages about what was in force, and could be again.
func (s *Surface) historyPageRoutes() []endpoint.Route {
	return []endpoint.Route{
		{Method: "GET", Path: "/policy/history", By: endpoint.PolicyTeam, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageHistory},
		{Method: "GET", Path: "/policy/history/diff", By: endpoint.PolicyTeam, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageDiff, Accepts: endpoint.Accepts{Query: []string{"from", "to"}}},
		{Method: "GET", Path: "/policy/history/rollback", By: endpoint.PolicyTeam, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageRollBack, Accepts: endpoint.Accepts{Query: []string{"revision"}}},
		{Method: "POST", Path: "/policy/history/rollback", By: endpoint.PolicyTeam, SignIn: endpoint.FreshAdmin, Page: true, Do: s.formRollBack, Accepts: endpoint.Accepts{Form: []string{"revision"}}},
	}
}

func (s *Surface) pageHistory(c *gin.Context, p models.Principal) error {
	ctx := c.Request.Context()
	history, err := s.manage.PolicyHistory(ctx)
	if err != nil {
		return err
	}
	actors := make([]string, len(history.Events))
	for i, e := range history.Events {
		actors[i] = e.UserID
	}
	emails, _, err := s.manage.Names(ctx, actors, nil)
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.NewPolicyHistory(history, emails, s.manage.HasCandidate(), s.now()))
}

func (s *Surface) pageRollBack(c *gin.Context, p models.Principal) error {
	kept, err := s.manage.KeptPolicy(c.Request.Context(), c.Query("revision"))
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.RollBackPolicy(kept, s.manage.ActiveRevision(), s.now(), ui.Problems{}))
}

func (s *Surface) formRollBack(c *gin.Context, p models.Principal) error {
	form, err := s.form(c)
	if err != nil {
		return err
	}
	policy, err := s.manage.RollBackPolicy(c.Request.Context(), p, api.PolicyRollback{Revision: form.Get("revision")})
	if err != nil {
		return err
	}
	return s.seeOther(c, policyPage, ui.PolicyRolledBack(policy))
}

// pageDiff compares two policies: revisions that are kept, and what the source holds.
func (s *Surface) pageDiff(c *gin.Context, p models.Principal) error {
	ctx, from, to := c.Request.Context(), c.Query("from"), c.Query("to")
	before, err := s.manage.PolicyFiles(ctx, from)
	if err != nil {
		return err
	}
	after, err := s.manage.PolicyFiles(ctx, to)
	if err != nil {
		return err
	}
	history, err := s.manage.PolicyHistory(ctx)
	if err != nil {
		return err
	}
	done, err := s.manage.TakeTurn(ctx) // large files take their time to compare
	if err != nil {
		return err
	}
	defer done()
	page := ui.NewPolicyDiff(ui.PolicySides(history.Kept, s.manage.HasCandidate()), from, to, before, after)
	if len(page.Files) > 0 {
		page.Tell(s.manage.DiffDecisions(ctx, from, to))
	}
	return s.show(c, p, http.StatusOK, page)
}
