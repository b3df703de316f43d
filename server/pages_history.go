package server

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/bundles"
	"patrol/models"
	"patrol/models/store"
	"patrol/policies/engine"
	"patrol/server/ui"
)

// historyPageRoutes are the pages about what was in force, and could be again.
var historyPageRoutes = []route{
	{method: "GET", path: "/policy/history", by: policyTeam, page: true, do: (*Server).pageHistory},
	{method: "GET", path: "/policy/history/diff", by: policyTeam, page: true, do: (*Server).pageDiff, accepts: accepts{query: []string{"from", "to"}}},
	{method: "GET", path: "/policy/history/rollback", by: policyTeam, page: true, do: (*Server).pageRollBack, accepts: accepts{query: []string{"revision"}}},
	{method: "POST", path: "/policy/history/rollback", by: policyTeam, page: true, do: (*Server).formRollBack, accepts: accepts{form: []string{"revision"}}},
}

func (s *Server) pageHistory(c *gin.Context, p models.Principal) error {
	ctx := c.Request.Context()
	history, err := s.PolicyHistory(ctx)
	if err != nil {
		return err
	}
	actors := make([]string, len(history.Events))
	for i, e := range history.Events {
		actors[i] = e.UserID
	}
	emails, _, err := s.store.Names(ctx, actors, nil)
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.NewPolicyHistory(history, emails, s.policy.Candidate() != nil, s.now()))
}

// keptPolicy finds a revision that is kept, by its digest or its name.
func (s *Server) keptPolicy(ctx context.Context, name string) (api.PolicyRevision, error) {
	found, err := s.store.KeptPolicy(ctx, name)
	if err != nil {
		return api.PolicyRevision{}, err
	}
	history, err := s.PolicyHistory(ctx)
	if err != nil {
		return api.PolicyRevision{}, err
	}
	i := slices.IndexFunc(history.Kept, func(r api.PolicyRevision) bool { return r.Digest == found.Digest })
	if i < 0 {
		return api.PolicyRevision{}, models.NewError(models.CodeNotFound, "this revision of the policy is not kept any more")
	}
	return history.Kept[i], nil
}

func (s *Server) pageRollBack(c *gin.Context, p models.Principal) error {
	kept, err := s.keptPolicy(c.Request.Context(), c.Query("revision"))
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.RollBackPolicy(kept, s.policy.Status().Active.Revision, s.now(), ui.Problems{}))
}

func (s *Server) formRollBack(c *gin.Context, p models.Principal) error {
	form, err := s.form(c)
	if err != nil {
		return err
	}
	policy, err := s.RollBackPolicy(c.Request.Context(), p, api.PolicyRollback{Revision: form.Get("revision")})
	if err != nil {
		return err
	}
	return s.seeOther(c, policyPage, ui.PolicyRolledBack(policy))
}

// pageDiff compares two policies: revisions that are kept, and what the source holds.
func (s *Server) pageDiff(c *gin.Context, p models.Principal) error {
	ctx := c.Request.Context()
	kept, err := s.store.PolicyRevisions(ctx)
	if err != nil {
		return err
	}
	from, to := c.Query("from"), c.Query("to")
	before, err := s.filesOf(ctx, from, kept)
	if err != nil {
		return err
	}
	after, err := s.filesOf(ctx, to, kept)
	if err != nil {
		return err
	}
	history, err := s.PolicyHistory(ctx)
	if err != nil {
		return err
	}
	done, err := s.reader.begin(ctx) // large files take their time to compare
	if err != nil {
		return err
	}
	defer done()
	sides := ui.PolicySides(history.Kept, s.policy.Candidate() != nil)
	page := ui.NewPolicyDiff(sides, from, to, before, after)
	if len(page.Files) > 0 {
		page.Tell(s.diffInWords(ctx, from, to, kept))
	}
	return s.show(c, p, http.StatusOK, page)
}

// diffInWords compares two kept policies by what they say and decide; nil if that
// cannot be done. What only the source holds has passed no gate, and is not run here.
func (s *Server) diffInWords(ctx context.Context, from, to string, kept []store.PolicyRevision) *engine.DiffReport {
	within, cancel := context.WithTimeout(ctx, explainWithin)
	defer cancel()
	var sides [2]engine.Loaded
	for i, key := range [...]string{from, to} {
		at := slices.IndexFunc(kept, func(r store.PolicyRevision) bool { return r.Digest == key })
		if at < 0 {
			return nil
		}
		var err error
		if sides[i], err = s.reader.load(within, s.store, kept[at]); err != nil {
			s.log.WarnContext(ctx, "a policy that is kept cannot be loaded to compare it", "revision", kept[at].Revision, "error", err)
			return nil
		}
	}
	report, err := engine.Diff(within, sides[0], sides[1], 1)
	if err != nil {
		s.log.WarnContext(ctx, "two policies could not be compared by what they decide", "from", from, "to", to, "error", err)
		return nil
	}
	return report
}

// filesOf returns the files of a policy that can be compared.
func (s *Server) filesOf(ctx context.Context, key string, kept []store.PolicyRevision) (map[string][]byte, error) {
	if key == ui.CandidateKey {
		archive := s.policy.Candidate()
		if archive == nil {
			return nil, models.NewError(models.CodeNotFound, "the policy’s source holds nothing else than what is in force")
		}
		b, err := bundles.Unpack(ctx, s.policy.Status().Source.Name, archive, nil)
		if err != nil {
			return nil, models.WrapError(models.CodeConflict, "what the policy’s source holds cannot be read: the page about the policy says why", err)
		}
		return b.Files, nil
	}
	i := slices.IndexFunc(kept, func(r store.PolicyRevision) bool { return r.Digest == key })
	if i < 0 {
		return nil, models.NewError(models.CodeNotFound, "no such revision of the policy is kept")
	}
	b, err := openKept(ctx, s.store, kept[i])
	if err != nil {
		return nil, fmt.Errorf("look into revision %s: %w", kept[i].Revision, err)
	}
	return b.Files, nil
}
