package rest

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/request"
)

func (s *Surface) postPurge(c *gin.Context, p models.Principal) error {
	var in struct {
		OlderThan string `json:"older_than"`
	}
	if err := s.readBodyIfAny(c, &in); err != nil {
		return err
	}
	out, err := s.manage.PurgePATs(c.Request.Context(), p, in.OlderThan)
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, out)
	return nil
}

func (s *Surface) postAnyPurge(c *gin.Context, p models.Principal) error {
	var in api.Purge
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	out, err := s.manage.PurgeAnyPATs(c.Request.Context(), p, in)
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, out)
	return nil
}
