package pages

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/ui"
)

// policyPageRoutes are the pages of the policy team.
func (s *Surface) policyPageRoutes() []endpoint.Route {
	return []endpoint.Route{
		{Method: "GET", Path: "/policy", By: endpoint.PolicyTeam, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pagePolicy},
		{Method: "POST", Path: "/policy/resume", By: endpoint.PolicyTeam, SignIn: endpoint.FreshAdmin, Page: true, Do: s.formPolicyResume},
		{Method: "GET", Path: "/policy/rules", By: endpoint.PolicyTeam, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pagePolicyRules},
	}
}

const policyPage = "/policy"

func (s *Surface) pagePolicy(c *gin.Context, p models.Principal) error {
	policy, err := s.manage.Policy(c.Request.Context())
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.NewPolicy(policy, s.now()))
}

func (s *Surface) formPolicyResume(c *gin.Context, p models.Principal) error {
	if _, err := s.form(c); err != nil {
		return err
	}
	policy, err := s.manage.ResumePolicy(c.Request.Context(), p)
	if err != nil {
		return err
	}
	return s.seeOther(c, policyPage, ui.PolicyResumed(policy))
}

func (s *Surface) pagePolicyRules(c *gin.Context, p models.Principal) error {
	in, err := s.manage.InspectPolicy(c.Request.Context())
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.NewRules(in))
}
