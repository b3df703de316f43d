package server

import (
	"context"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
)

// What platform admins see of everybody: all tokens, tokens that leaked, and the
// audit log.

// leakedReason is what the owner of a token is told that somebody else found.
const leakedReason = "The token was found where it should not be. Whoever saw it could use it."

// FindLeaked returns the token whose text somebody found. The secret is verified
// before anything of the record is looked at: a text that merely has the id of a
// token is nobody's.
func (s *Server) FindLeaked(ctx context.Context, text string) (models.PAT, error) {
	var v models.Invalid
	token, err := models.ParseToken(text)
	if err != nil {
		v.Add("token", "is not a whole token: it begins with patrol_ and has 62 characters")
		return models.PAT{}, v.Err()
	}
	pat, err := s.store.PAT(ctx, token.ID)
	if err != nil {
		return models.PAT{}, err
	}
	var keyID string
	var mac []byte
	if pat != nil {
		keyID, mac = pat.KeyID, pat.MAC
	}
	verified := s.keys.Verify(token, keyID, mac)
	if !verified && pat != nil && s.keys.Status(keyID) == models.KeyUnknown {
		return models.PAT{}, models.NewError(models.CodeUnavailable, fmt.Sprintf("the token was hashed with the key %q, which the ring of this server does not have", keyID))
	}
	if !verified {
		return models.PAT{}, errUnknownLeak
	}
	return *pat, nil
}

var errUnknownLeak = models.NewError(models.CodeNotFound, "the token is not known here: it was deleted, or is of another installation")

// wireOwned is anybody's token, as platform admins see it.
func (s *Server) wireOwned(o store.OwnedPAT) api.OwnedPAT {
	return api.OwnedPAT{PAT: s.wirePAT(o.PAT), UserID: o.UserID, Email: o.Email}
}

func (s *Server) getInventory(c *gin.Context, _ models.Principal) error {
	query := c.Request.URL.Query()
	var v models.Invalid
	search := readSearch(query, &v)
	search.Domain, search.UserID = query.Get("domain"), query.Get("user_id")
	page := readPage(query, &v)
	if err := v.Err(); err != nil {
		return err
	}
	found, next, err := s.store.SearchPATs(c.Request.Context(), search, page)
	if err != nil {
		return err
	}
	writePage(c, found, next, s.wireOwned)
	return nil
}

// postLeaked revokes the token that is in the body, which is where it is the least
// likely to be written down.
func (s *Server) postLeaked(c *gin.Context, p models.Principal) error {
	var in api.LeakedToken
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	if in.Reason == "" {
		in.Reason = leakedReason
	}
	ctx := c.Request.Context()
	pat, err := s.FindLeaked(ctx, in.Token)
	if err != nil {
		return err
	}
	if pat, err = s.RevokeFor(ctx, p, pat.ID, in.Reason); err != nil {
		return err
	}
	owned := store.OwnedPAT{PAT: pat}
	owner, err := s.store.User(ctx, pat.UserID)
	if err != nil {
		return err
	}
	if owner != nil {
		owned.Email = owner.Email
	}
	writeJSON(c.Writer, http.StatusOK, s.wireOwned(owned))
	return nil
}

func wireEvent(e store.AuditEvent) api.AuditEvent {
	out := api.AuditEvent{
		ID: e.ID, At: e.At.UTC(), Action: e.Action, Subject: e.Subject, Detail: e.Detail,
		Actor: api.AuditActor{
			Kind: e.Actor.Kind, UserID: e.Actor.UserID, TokenID: e.Actor.TokenID,
			IP: e.Actor.IP, UserAgent: e.Actor.UserAgent, RequestID: e.Actor.RequestID,
		},
	}
	if out.Detail == nil {
		out.Detail = map[string]string{}
	}
	return out
}

func (s *Server) getAudit(c *gin.Context, _ models.Principal) error {
	query := c.Request.URL.Query()
	var v models.Invalid
	filter := store.AuditFilter{
		Action: query.Get("action"), Subject: query.Get("subject"), UserID: query.Get("user_id"),
		Since: readTime(query, "since", &v), Until: readTime(query, "until", &v),
	}
	page := readPage(query, &v)
	if err := v.Err(); err != nil {
		return err
	}
	events, next, err := s.store.AuditEvents(c.Request.Context(), filter, page)
	if err != nil {
		return err
	}
	writePage(c, events, next, wireEvent)
	return nil
}
