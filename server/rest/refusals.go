package rest

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/manage"
	"patrol/server/request"
)

func (s *Surface) getDecisionLog(c *gin.Context, _ models.Principal) error {
	out, err := s.manage.DecisionLog(c.Request.Context())
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, out)
	return nil
}

func (s *Surface) getRefusals(c *gin.Context, _ models.Principal) error {
	query := c.Request.URL.Query()
	var v models.Invalid
	filter := manage.RefusalFilter{
		Address: query.Get("address"), Reason: models.ReasonCode(query.Get("reason")),
		Since: endpoint.PastTime(query, "since", s.now(), &v), Until: endpoint.PastTime(query, "until", s.now(), &v),
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
