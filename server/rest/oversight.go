package rest

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/manage"
	"patrol/server/request"
)

// wireOwned is anybody's token, as platform admins see it.
func (s *Surface) wireOwned(o manage.OwnedPAT) api.OwnedPAT {
	return api.OwnedPAT{PAT: s.wirePAT(o.PAT), UserID: o.UserID, Email: o.Email}
}

func (s *Surface) getInventory(c *gin.Context, _ models.Principal) error {
	query := c.Request.URL.Query()
	var v models.Invalid
	search := readSearch(query, &v)
	search.Domain = query.Get("domain")
	page := readPage(query, &v)
	if err := v.Err(); err != nil {
		return err
	}
	found, next, err := s.manage.SearchPATs(c.Request.Context(), search, page)
	if err != nil {
		return err
	}
	writePage(c, found, next, s.wireOwned)
	return nil
}

// postLeaked revokes the token that is in the body, which is where it is the least
// likely to be written down.
func (s *Surface) postLeaked(c *gin.Context, p models.Principal) error {
	var in api.LeakedToken
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	owned, err := s.manage.RevokeLeaked(c.Request.Context(), p, in)
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, s.wireOwned(owned))
	return nil
}

// The bounds of a report of found tokens, those of GitHub's own form of it.
const (
	maxFound     = 1000
	maxFoundBody = 256 << 10
)

// postFound revokes the tokens in a list of what somebody found, whoever that is. The answer is the
// same whatever is in the list.
func (s *Surface) postFound(c *gin.Context, _ models.Principal) error {
	var in api.FoundCredentials
	if err := s.readBodyUpTo(c, maxFoundBody, &in); err != nil {
		return err
	}
	if n := len(in.Credentials); n < 1 || n > maxFound {
		var v models.Invalid
		v.Add("credentials", "must have 1 to %d items, not %d", maxFound, n)
		return v.Err()
	}
	x := request.Of(c.Request.Context())
	err := s.manage.RevokeFound(c.Request.Context(), x.Client.String(), in.Credentials, func(userID, tokenID string) models.Actor {
		return x.Actor(models.ActorToken, userID, tokenID)
	})
	if err != nil {
		return err
	}
	c.Status(http.StatusAccepted)
	return nil
}

func (s *Surface) getAudit(c *gin.Context, _ models.Principal) error {
	query := c.Request.URL.Query()
	var v models.Invalid
	filter := manage.AuditFilter{
		Action: query.Get("action"), Subject: query.Get("subject"), UserID: query.Get("user_id"),
		Since: readTime(query, "since", &v), Until: readTime(query, "until", &v),
	}
	page := readPage(query, &v)
	if err := v.Err(); err != nil {
		return err
	}
	events, next, err := s.manage.AuditEvents(c.Request.Context(), filter, page)
	if err != nil {
		return err
	}
	writePage(c, events, next, manage.WireEvent)
	return nil
}
