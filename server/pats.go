package server

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
)

// CreatePAT makes a token for p with what in asks for. The token is told here
// and nowhere else.
func (s *Server) CreatePAT(ctx context.Context, p models.Principal, in api.NewPAT) (models.PAT, models.Token, error) {
	now := s.now()
	var v models.Invalid
	models.ValidateName("name", in.Name, &v)
	models.ValidateDescription("description", in.Description, &v)
	expires := lifetime(in.ExpiresIn, in.ExpiresAt).Resolve(now, s.cfg.Limits.MaxLifetime, &v)
	scopes := make([]models.Scope, len(in.Scopes))
	for i, sc := range in.Scopes {
		scopes[i] = newScope(sc)
	}
	models.ValidateScopes(scopes, s.engine.Current().Catalog(), s.cfg.Limits, &v)
	limits, err := s.limitsOf(ctx, p, scopes)
	if err != nil {
		return models.PAT{}, models.Token{}, err
	}
	for i, sc := range scopes {
		limits.checkScope(sc, fmt.Sprintf("scopes[%d].", i), &v)
	}
	limits.checkExpiry(now, expires, &v)
	if err := v.Err(); err != nil {
		return models.PAT{}, models.Token{}, err
	}
	for i := range scopes {
		scopes[i].ID = models.NewID()
	}
	pat, token, err := s.mint(now, expires)
	if err != nil {
		return models.PAT{}, models.Token{}, err
	}
	pat.UserID, pat.Name, pat.Description, pat.Scopes = p.User.ID, in.Name, in.Description, scopes
	pat, err = s.store.CreatePAT(ctx, p.Actor, pat)
	if err != nil {
		return models.PAT{}, models.Token{}, err
	}
	return pat, token, nil
}

// RotatePAT replaces a token of p by a new one with the same name and scopes.
func (s *Server) RotatePAT(ctx context.Context, p models.Principal, id string, in api.Rotation) (models.PAT, models.Token, error) {
	now := s.now()
	var v models.Invalid
	expires := lifetime(in.ExpiresIn, in.ExpiresAt).Resolve(now, s.cfg.Limits.MaxLifetime, &v)
	var grace time.Duration
	if in.Grace != "" {
		var err error
		switch grace, err = models.ParseDuration(in.Grace); {
		case err != nil:
			v.Add("grace", "%s", err.Error())
		case grace > s.cfg.Limits.MaxGrace:
			v.Add("grace", "is longer than the maximum of %s", models.FormatDuration(s.cfg.Limits.MaxGrace))
		}
	}
	old, err := s.store.PATOf(ctx, p.User.ID, id)
	if err != nil {
		return models.PAT{}, models.Token{}, err
	}
	if old != nil { // else the store says so
		limits, err := s.limitsOf(ctx, p, old.Scopes)
		if err != nil {
			return models.PAT{}, models.Token{}, err
		}
		limits.checkExpiry(now, expires, &v)
	}
	if err := v.Err(); err != nil {
		return models.PAT{}, models.Token{}, err
	}
	next, token, err := s.mint(now, expires)
	if err != nil {
		return models.PAT{}, models.Token{}, err
	}
	next, err = s.store.RotatePAT(ctx, p.Actor, p.User.ID, id, next, grace)
	if err != nil {
		return models.PAT{}, models.Token{}, err
	}
	return next, token, nil
}

// mint draws a token and starts its record.
func (s *Server) mint(now, expires time.Time) (models.PAT, models.Token, error) {
	token, err := models.Mint(s.random)
	if err != nil {
		return models.PAT{}, models.Token{}, err
	}
	mac, keyID := s.keys.Sum(token)
	return models.PAT{ID: token.ID, KeyID: keyID, MAC: mac, CreatedAt: now, ExpiresAt: expires}, token, nil
}

// PAT returns a token of p.
func (s *Server) PAT(ctx context.Context, p models.Principal, id string) (models.PAT, error) {
	pat, err := s.store.PATOf(ctx, p.User.ID, id)
	if err != nil {
		return models.PAT{}, err
	}
	if pat == nil {
		return models.PAT{}, models.NewError(models.CodeNotFound, "you have no such token")
	}
	return *pat, nil
}

// UpdatePAT changes the name and description of a token of p.
func (s *Server) UpdatePAT(ctx context.Context, p models.Principal, id string, in api.PATPatch) (models.PAT, error) {
	var v models.Invalid
	if in.Name != nil {
		models.ValidateName("name", *in.Name, &v)
	}
	if in.Description != nil {
		models.ValidateDescription("description", *in.Description, &v)
	}
	if err := v.Err(); err != nil {
		return models.PAT{}, err
	}
	return s.store.UpdatePAT(ctx, p.Actor, p.User.ID, id, store.PATPatch{Name: in.Name, Description: in.Description})
}

// RevokePAT ends a token of p, or anybody's if p is a platform admin. Doing it
// again changes nothing.
func (s *Server) RevokePAT(ctx context.Context, p models.Principal, id string) (models.PAT, error) {
	return s.RevokeFor(ctx, p, id, "")
}

// AddScope widens a token of p.
func (s *Server) AddScope(ctx context.Context, p models.Principal, id string, in api.NewScope) (models.PAT, error) {
	scope := newScope(in)
	var v models.Invalid
	scope.Validate(s.engine.Current().Catalog(), "", &v)
	limits, err := s.limitsOf(ctx, p, []models.Scope{scope})
	if err != nil {
		return models.PAT{}, err
	}
	limits.checkScope(scope, "", &v)
	if err := v.Err(); err != nil {
		return models.PAT{}, err
	}
	scope.ID = models.NewID()
	return s.store.AddScope(ctx, p.Actor, p.User.ID, id, scope)
}

func lifetime(in string, at *time.Time) models.Lifetime {
	l := models.Lifetime{In: in}
	if at != nil {
		l.At = *at
	}
	return l
}

func newScope(in api.NewScope) models.Scope {
	return models.Scope{Domain: in.Domain, EntityType: in.EntityType, Entity: in.Entity, Operation: in.Operation}
}

// wirePAT is a token's record as the API shows it: with the expiry that counts.
func (s *Server) wirePAT(p models.PAT) api.PAT {
	p = p.WithMaxLifetime(s.cfg.Limits.MaxLifetime)
	out := api.PAT{
		ID: p.ID, Name: p.Name, Description: p.Description, Status: p.Status(s.now()),
		Scopes: make([]api.Scope, len(p.Scopes)), CreatedAt: p.CreatedAt.UTC(), ExpiresAt: p.ExpiresAt.UTC(),
		LastUsedAt: utc(p.LastUsedAt), RevokedAt: utc(p.RevokedAt), Approvals: wireApprovals(p.Approvals),
	}
	if p.Revoked.By != "" {
		out.RevokedBy = &p.Revoked.By
	}
	if p.Revoked.Domain != "" {
		out.RevokedDomain = &p.Revoked.Domain
	}
	if p.Revoked.Reason != "" {
		out.RevokedReason = &p.Revoked.Reason
	}
	for i, sc := range p.Scopes {
		out.Scopes[i] = api.Scope(sc)
	}
	if p.LastUsedIP != "" {
		out.LastUsedIP = &p.LastUsedIP
	}
	if p.RotatedTo != "" {
		out.RotatedTo = &p.RotatedTo
	}
	return out
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}

// answerToken is the one kind of answer that holds a PAT's text. Answers of the
// API are never stored (see secure).
func (s *Server) answerToken(c *gin.Context, status int, pat models.PAT, token models.Token) {
	out := s.wirePAT(pat)
	out.Token = token.Reveal()
	writeJSON(c.Writer, status, out)
}

func (s *Server) answerPAT(c *gin.Context, pat models.PAT, err error) error {
	if err != nil {
		return err
	}
	writeJSON(c.Writer, http.StatusOK, s.wirePAT(pat))
	return nil
}

func (s *Server) getPATs(c *gin.Context, p models.Principal) error {
	query := c.Request.URL.Query()
	filter := store.PATFilter{UserID: p.User.ID, Status: models.Status(query.Get("status")), Name: query.Get("name")}
	var v models.Invalid
	switch filter.Status {
	case "", models.StatusActive, models.StatusExpired, models.StatusRevoked:
	default:
		v.Add("status", "must be one of active, expired, revoked")
	}
	page := readPage(query, &v)
	if err := v.Err(); err != nil {
		return err
	}
	pats, next, err := s.store.PATs(c.Request.Context(), filter, page)
	if err != nil {
		return err
	}
	writePage(c, pats, next, s.wirePAT)
	return nil
}

func (s *Server) postPAT(c *gin.Context, p models.Principal) error {
	var in api.NewPAT
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	pat, token, err := s.CreatePAT(c.Request.Context(), p, in)
	if err != nil {
		return err
	}
	c.Header("Location", "/api/v1/pats/"+pat.ID)
	s.answerToken(c, http.StatusCreated, pat, token)
	return nil
}

// allMeant returns an error unless values say that all tokens are meant. instead
// says how one is revoked.
func allMeant(values url.Values, instead string) error {
	if values.Get("all") == "true" {
		return nil
	}
	var v models.Invalid
	v.Add("all", "must be true: this revokes every token of yours; %s", instead)
	return v.Err()
}

func (s *Server) deletePATs(c *gin.Context, p models.Principal) error {
	if err := allMeant(c.Request.URL.Query(), "one is revoked by POST /api/v1/pats/{id}/revoke"); err != nil {
		return err
	}
	if _, err := s.store.RevokeAll(c.Request.Context(), p.Actor, p.User.ID); err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}

func (s *Server) getSelf(c *gin.Context, p models.Principal) error {
	return s.answerPAT(c, *p.PAT, nil)
}

// deleteSelf lets a token revoke itself, whatever its scopes: a program that
// has to give up a leaked token needs nobody's help.
func (s *Server) deleteSelf(c *gin.Context, p models.Principal) error {
	if _, err := s.store.RevokePAT(c.Request.Context(), p.Actor, p.User.ID, p.PAT.ID); err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}

func (s *Server) getPAT(c *gin.Context, p models.Principal) error {
	pat, err := s.PAT(c.Request.Context(), p, c.Param("id"))
	return s.answerPAT(c, pat, err)
}

func (s *Server) patchPAT(c *gin.Context, p models.Principal) error {
	var in api.PATPatch
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	pat, err := s.UpdatePAT(c.Request.Context(), p, c.Param("id"), in)
	return s.answerPAT(c, pat, err)
}

func (s *Server) deletePAT(c *gin.Context, p models.Principal) error {
	if err := s.store.DeletePAT(c.Request.Context(), p.Actor, p.User.ID, c.Param("id")); err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}

func (s *Server) postRevoke(c *gin.Context, p models.Principal) error {
	var in api.Revocation
	if err := s.readBodyIfAny(c, &in); err != nil {
		return err
	}
	wait, err := readWait(c.Request.URL.Query())
	if err != nil {
		return err
	}
	if !wait {
		pat, err := s.RevokeFor(c.Request.Context(), p, c.Param("id"), in.Reason)
		return s.answerPAT(c, pat, err)
	}
	pat, reached, err := s.RevokeEverywhere(c, p, c.Param("id"), in.Reason)
	if err != nil {
		return err
	}
	writeJSON(c.Writer, http.StatusOK, api.RevokedPAT{PAT: s.wirePAT(pat), Servers: &reached})
	return nil
}

func (s *Server) postRotate(c *gin.Context, p models.Principal) error {
	var in api.Rotation
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	pat, token, err := s.RotatePAT(c.Request.Context(), p, c.Param("id"), in)
	if err != nil {
		return err
	}
	s.answerToken(c, http.StatusOK, pat, token)
	return nil
}

func (s *Server) postScope(c *gin.Context, p models.Principal) error {
	var in api.NewScope
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	pat, err := s.AddScope(c.Request.Context(), p, c.Param("id"), in)
	if err != nil {
		return err
	}
	writeJSON(c.Writer, http.StatusCreated, s.wirePAT(pat))
	return nil
}

func (s *Server) deleteScope(c *gin.Context, p models.Principal) error {
	if _, err := s.store.RemoveScope(c.Request.Context(), p.Actor, p.User.ID, c.Param("id"), c.Param("scope")); err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}
