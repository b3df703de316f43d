package rest

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/request"
)

// shadowRoutes are about the policy that is judged beside the one in force.
func (s *Surface) shadowRoutes() []endpoint.Route {
	return []endpoint.Route{
		{Method: "GET", Path: "/api/v1/policy/shadow", By: endpoint.PolicyTeam, SignIn: endpoint.AnyAgeToRead, Do: s.getPolicyShadow},
		{Method: "POST", Path: "/api/v1/policy/promote", By: endpoint.PolicyTeam, SignIn: endpoint.FreshAdmin, Do: s.postPolicyPromote, Accepts: endpoint.Accepts{Body: endpoint.Object}},
	}
}

func (s *Surface) getPolicyShadow(c *gin.Context, _ models.Principal) error {
	out, err := s.manage.PolicyShadow(c.Request.Context())
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, out)
	return nil
}

func (s *Surface) postPolicyPromote(c *gin.Context, p models.Principal) error {
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
