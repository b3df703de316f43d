package pages

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/request"
	"patrol/server/ui"
)

// dataPages hand people what is kept about them.
func (s *Surface) dataPages() []endpoint.Route {
	return []endpoint.Route{
		{Method: "GET", Path: ui.DataPath, By: endpoint.Session, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageData},
		{Method: "GET", Path: ui.DataPath + "/export", By: endpoint.Session, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageExport},
	}
}

func (s *Surface) pageData(c *gin.Context, p models.Principal) error {
	return s.show(c, p, http.StatusOK, ui.OwnData())
}

func (s *Surface) pageExport(c *gin.Context, p models.Principal) error {
	if endpoint.AnswersHead(c) {
		return nil
	}
	out, err := s.identity.Export(c.Request.Context(), p)
	if err != nil {
		return err
	}
	c.Header("Content-Disposition", `attachment; filename="patrol-account.json"`)
	request.WriteJSON(c.Writer, http.StatusOK, out)
	return nil
}
