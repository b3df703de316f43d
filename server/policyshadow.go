package server

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/request"
)

// shadowRoutes are about the policy that is judged beside the one in force.
var shadowRoutes = []route{
	{method: "GET", path: "/api/v1/policy/shadow", by: policyTeam, do: (*Server).getPolicyShadow},
	{method: "POST", path: "/api/v1/policy/promote", by: policyTeam, do: (*Server).postPolicyPromote, accepts: accepts{body: object}},
}

func (s *Server) getPolicyShadow(c *gin.Context, _ models.Principal) error {
	out, err := s.manage.PolicyShadow(c.Request.Context())
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, out)
	return nil
}

func (s *Server) postPolicyPromote(c *gin.Context, p models.Principal) error {
	var in api.PolicyPromotion
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	out, err := s.manage.PromotePolicy(c.Request.Context(), p, in)
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, out)
	return nil
}
