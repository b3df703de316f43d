package rest

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/request"
)

func wireLimits(l models.DomainLimits) api.DomainLimits {
	out := api.DomainLimits{Wildcards: !l.NoWildcards, Approval: l.Approval}
	if l.MaxLifetime > 0 {
		text := models.FormatDuration(l.MaxLifetime)
		out.MaxLifetime = &text
	}
	return out
}

func (s *Surface) getLimits(c *gin.Context, p models.Principal) error {
	domain, err := s.manage.ReadableDomain(c.Request.Context(), p, c.Param("id"))
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, wireLimits(domain.Limits))
	return nil
}

func (s *Surface) putLimits(c *gin.Context, p models.Principal) error {
	var in api.SetDomainLimits
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	limits, err := s.manage.SetLimits(c.Request.Context(), p, c.Param("id"), in)
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, wireLimits(limits))
	return nil
}
