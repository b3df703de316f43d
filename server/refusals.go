package server

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
	"patrol/server/request"
	"patrol/server/ui"
)

func (s *Server) getDecisionLog(c *gin.Context, _ models.Principal) error {
	out, err := s.manage.DecisionLog(c.Request.Context())
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, out)
	return nil
}

func (s *Server) getRefusals(c *gin.Context, _ models.Principal) error {
	query := c.Request.URL.Query()
	var v models.Invalid
	filter := store.RefusalFilter{
		Address: query.Get("address"), Reason: models.ReasonCode(query.Get("reason")),
		Since: s.pastTime(query, "since", &v), Until: s.pastTime(query, "until", &v),
	}
	page := readPage(query, &v)
	if err := v.Err(); err != nil {
		return err
	}
	list, next, err := s.manage.Refusals(c.Request.Context(), filter, page)
	if err != nil {
		return err
	}
	writePage(c, list, next, wireRefusals)
	return nil
}

func wireRefusals(r models.CountedRefusals) api.CountedRefusals {
	return api.CountedRefusals{
		From: r.From, Seconds: int64(r.Span / time.Second), Address: r.Address, Reason: string(r.Reason),
		Calls: r.Calls, Decisions: r.Decisions, Kept: r.Kept,
	}
}

// pageRefusals lists the same for people.
func (s *Server) pageRefusals(c *gin.Context, p models.Principal) error {
	filter := ui.DecodeRefusalFilter(c.Request.URL.Query())
	found, next, err := s.manage.Refusals(c.Request.Context(), store.RefusalFilter{
		Address: filter.Address, Reason: models.ReasonCode(filter.Reason),
	}, store.Page{Limit: defaultPage, After: filter.After})
	if models.CodeOf(err) == models.CodeInvalid { // a cursor of another list: begin anew
		return s.seeOther(c, ui.RefusalsPath, "")
	}
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.Refusals(found, filter, s.now(), next))
}
