package pages

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/ui"
)

// shadowPageRoutes are the pages about the policy that is judged beside the one in
// force.
func (s *Surface) shadowPageRoutes() []endpoint.Route {
	return []endpoint.Route{
		{Method: "GET", Path: "/policy/shadow", By: endpoint.PolicyTeam, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageShadow},
		{Method: "GET", Path: "/policy/shadow/promote", By: endpoint.PolicyTeam, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pagePromote, Accepts: endpoint.Accepts{Query: []string{"revision"}}},
		{Method: "POST", Path: "/policy/shadow/promote", By: endpoint.PolicyTeam, SignIn: endpoint.FreshAdmin, Page: true, Do: s.formPromote, Accepts: endpoint.Accepts{Form: []string{"revision"}}},
	}
}

func (s *Surface) pageShadow(c *gin.Context, p models.Principal) error {
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

func (s *Surface) pagePromote(c *gin.Context, p models.Principal) error {
	shadow, err := s.manage.PolicyShadow(c.Request.Context())
	if err != nil {
		return err
	}
	if shadow.Shadow == nil || shadow.Shadow.Digest != c.Query("revision") {
		return errOtherShadow
	}
	return s.show(c, p, http.StatusOK, ui.PromotePolicy(shadow, ui.Problems{}))
}

func (s *Surface) formPromote(c *gin.Context, p models.Principal) error {
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
