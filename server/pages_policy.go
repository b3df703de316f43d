package server

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/models"
	"patrol/server/ui"
)

// policyPageRoutes are the pages of the policy team.
var policyPageRoutes = []route{
	{method: "GET", path: "/policy", by: policyTeam, page: true, do: (*Server).pagePolicy},
	{method: "POST", path: "/policy/resume", by: policyTeam, page: true, do: (*Server).formPolicyResume},
	{method: "GET", path: "/policy/rules", by: policyTeam, page: true, do: (*Server).pagePolicyRules},
}

const policyPage = "/policy"

func (s *Server) pagePolicy(c *gin.Context, p models.Principal) error {
	policy, err := s.manage.Policy(c.Request.Context())
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.NewPolicy(policy, s.now()))
}

func (s *Server) formPolicyResume(c *gin.Context, p models.Principal) error {
	if _, err := s.form(c); err != nil {
		return err
	}
	policy, err := s.manage.ResumePolicy(c.Request.Context(), p)
	if err != nil {
		return err
	}
	return s.seeOther(c, policyPage, ui.PolicyResumed(policy))
}

func (s *Server) pagePolicyRules(c *gin.Context, p models.Principal) error {
	in, err := s.manage.InspectPolicy(c.Request.Context())
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.NewRules(in))
}
