package rest

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/manage"
	"patrol/server/request"
)

// playgroundRoutes let the policy team try changes to a copy of the policy.
func (s *Surface) playgroundRoutes() []endpoint.Route {
	return []endpoint.Route{
		{Method: "POST", Path: "/api/v1/policy/playground", By: endpoint.PolicyTeam, SignIn: endpoint.AnyAgeToRead, Do: s.postPlayground, Accepts: endpoint.Accepts{Body: endpoint.Object}},
	}
}

func (s *Surface) postPlayground(c *gin.Context, p models.Principal) error {
	if !s.manage.HasPlayground() {
		return manage.ErrNoPlayground
	}
	var in api.PlaygroundTrial
	if err := readJSON(c.Writer, c.Request, s.cfg.Playground.MaxBody, &in); err != nil {
		return err
	}
	endpoint.AllowTrial(c.Writer, s.cfg.Playground.Timeout+s.cfg.HTTP.WriteTimeout)
	tried, err := s.manage.TryPolicy(c.Request.Context(), p, in)
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, tried.PlaygroundResult)
	return nil
}
