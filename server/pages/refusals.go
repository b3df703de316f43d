package pages

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/manage"
	"patrol/server/ui"
)

// pageRefusals lists the same for people.
func (s *Surface) pageRefusals(c *gin.Context, p models.Principal) error {
	filter := ui.DecodeRefusalFilter(c.Request.URL.Query())
	found, next, err := s.manage.Refusals(c.Request.Context(), manage.RefusalFilter{
		Address: filter.Address, Reason: models.ReasonCode(filter.Reason),
	}, manage.Page{Limit: endpoint.DefaultPage, After: filter.After})
	if models.CodeOf(err) == models.CodeInvalid { // a cursor of another list: begin anew
		return s.seeOther(c, ui.RefusalsPath, "")
	}
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.Refusals(found, filter, s.now(), next))
}
