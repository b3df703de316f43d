package server

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/ui"
)

// shadowPageRoutes are the pages about the policy that is judged beside the one in
// force.
var shadowPageRoutes = []route{
	{method: "GET", path: "/policy/shadow", by: policyTeam, page: true, do: (*Server).pageShadow},
	{method: "GET", path: "/policy/shadow/promote", by: policyTeam, page: true, do: (*Server).pagePromote, accepts: accepts{query: []string{"revision"}}},
	{method: "POST", path: "/policy/shadow/promote", by: policyTeam, page: true, do: (*Server).formPromote, accepts: accepts{form: []string{"revision"}}},
}

func (s *Server) pageShadow(c *gin.Context, p models.Principal) error {
	ctx := c.Request.Context()
	shadow, err := s.manage.PolicyShadow(ctx)
	if err != nil {
		return err
	}
	var users []string
	for _, g := range shadow.Groups {
		for _, e := range g.Examples {
			users = append(users, e.UserID)
		}
	}
	emails, _, err := s.manage.Names(ctx, users, nil)
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.NewPolicyShadow(shadow, emails, s.now()))
}

var errOtherShadow = models.NewError(models.CodeConflict, "the shadow is another policy by now: look at that first")

func (s *Server) pagePromote(c *gin.Context, p models.Principal) error {
	shadow, err := s.manage.PolicyShadow(c.Request.Context())
	if err != nil {
		return err
	}
	if shadow.Shadow == nil || shadow.Shadow.Digest != c.Query("revision") {
		return errOtherShadow
	}
	return s.show(c, p, http.StatusOK, ui.PromotePolicy(shadow, ui.Problems{}))
}

func (s *Server) formPromote(c *gin.Context, p models.Principal) error {
	form, err := s.form(c)
	if err != nil {
		return err
	}
	policy, err := s.manage.PromotePolicy(c.Request.Context(), p, api.PolicyPromotion{Revision: form.Get("revision")})
	if err != nil {
		return err
	}
	return s.seeOther(c, policyPage, ui.PolicyPromoted(policy))
}
