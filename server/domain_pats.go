package server

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
)

// The tokens of others, as a domain's admins and platform admins see them. The
// route table says who may come here for which domain; the store is asked for
// tokens within that domain, so that others are not found.

// DomainPAT returns a token that a domain's admins may know of. It holds only the
// scopes that reach the domain.
func (s *Server) DomainPAT(ctx context.Context, domain, id string) (store.OwnedPAT, error) {
	found, _, err := s.store.SearchPATs(ctx, store.PATSearch{Within: domain, ID: id}, store.Page{Limit: 1})
	if err != nil {
		return store.OwnedPAT{}, err
	}
	if len(found) == 0 {
		return store.OwnedPAT{}, errNoToken
	}
	return within(domain, found[0]), nil
}

var errNoToken = models.NewError(models.CodeNotFound, "there is no such token")

// within leaves of a token what a domain's admins may see.
func within(domain string, o store.OwnedPAT) store.OwnedPAT {
	o.Scopes = o.ScopesIn(domain)
	approval := o.ApprovedBy(domain)
	if o.Approvals = nil; approval != nil {
		o.Approvals = []models.Approval{*approval}
	}
	if o.Revoked.Domain != domain { // what another domain's admin wrote is for the owner
		o.Revoked.Domain = ""
		if o.Revoked.By == models.RevokerDomainAdmin {
			o.Revoked.Reason = ""
		}
	}
	o.Description, o.RotatedTo, o.LastUsedIP, o.LastUsedAgent = "", "", "", ""
	return o
}

// RevokeWithin ends a token for a domain, as a whole. Its owner is shown the
// reason.
func (s *Server) RevokeWithin(ctx context.Context, p models.Principal, domain, id, reason string) error {
	var v models.Invalid
	models.ValidateReason("reason", reason, true, &v)
	if err := v.Err(); err != nil {
		return err
	}
	_, err := s.store.RevokeWithin(ctx, p.Actor, domain, id, reason)
	return err
}

// RevokeFor is [Server.RevokePAT] with a reason for the token's owner, which may be
// "".
func (s *Server) RevokeFor(ctx context.Context, p models.Principal, id, reason string) (models.PAT, error) {
	var v models.Invalid
	models.ValidateReason("reason", reason, false, &v)
	if err := v.Err(); err != nil {
		return models.PAT{}, err
	}
	owner := p.User.ID
	if p.User.Admin {
		owner = ""
	}
	return s.store.RevokeFor(ctx, p.Actor, owner, id, reason)
}

func wireApprovals(approvals []models.Approval) []api.Approval {
	out := make([]api.Approval, len(approvals))
	for i, a := range approvals {
		out[i] = api.Approval{Domain: a.Domain, ApprovedAt: a.At.UTC()}
	}
	return out
}

// wireDomainPAT is a token as a domain's admins see it.
func (s *Server) wireDomainPAT(domain string, o store.OwnedPAT) api.DomainPAT {
	p := s.wirePAT(o.PAT)
	out := api.DomainPAT{
		ID: p.ID, Name: p.Name, Status: p.Status, UserID: o.UserID, Email: o.Email, Scopes: p.Scopes,
		CreatedAt: p.CreatedAt, ExpiresAt: p.ExpiresAt, LastUsedAt: p.LastUsedAt,
		RevokedAt: p.RevokedAt, RevokedBy: p.RevokedBy, RevokedDomain: p.RevokedDomain, RevokedReason: p.RevokedReason,
	}
	if a := o.ApprovedBy(domain); a != nil {
		out.ApprovedAt = utc(&a.At)
	}
	return out
}

// readSearch reads what lists of others' tokens are filtered by.
func readSearch(query url.Values, v *models.Invalid) store.PATSearch {
	search := store.PATSearch{
		Email: query.Get("owner"), Name: query.Get("name"), Status: models.Status(query.Get("status")),
		ExpiresBefore: readTime(query, "expires_before", v), UnusedSince: readTime(query, "unused_since", v),
	}
	switch search.Status {
	case "", models.StatusActive, models.StatusExpired, models.StatusRevoked:
	default:
		v.Add("status", "must be one of active, expired, revoked")
	}
	return search
}

func readTime(query url.Values, name string, v *models.Invalid) time.Time {
	if !query.Has(name) {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339, query.Get(name))
	if err != nil {
		v.Add(name, "must be an RFC 3339 time such as 2030-01-31T12:00:00Z")
	}
	return at
}

func (s *Server) getDomainPATs(c *gin.Context, _ models.Principal) error {
	query, domain := c.Request.URL.Query(), c.Param("id")
	var v models.Invalid
	search := readSearch(query, &v)
	search.Within = domain
	if query.Has("approved") {
		approved, err := strconv.ParseBool(query.Get("approved"))
		if err != nil {
			v.Add("approved", "must be true or false")
		}
		search.Approved = &approved
	}
	page := readPage(query, &v)
	if err := v.Err(); err != nil {
		return err
	}
	found, next, err := s.store.SearchPATs(c.Request.Context(), search, page)
	if err != nil {
		return err
	}
	writePage(c, found, next, func(o store.OwnedPAT) api.DomainPAT { return s.wireDomainPAT(domain, within(domain, o)) })
	return nil
}

func (s *Server) answerDomainPAT(c *gin.Context) error {
	pat, err := s.DomainPAT(c.Request.Context(), c.Param("id"), c.Param("pat"))
	if err != nil {
		return err
	}
	writeJSON(c.Writer, http.StatusOK, s.wireDomainPAT(c.Param("id"), pat))
	return nil
}

func (s *Server) getDomainPAT(c *gin.Context, _ models.Principal) error { return s.answerDomainPAT(c) }

func (s *Server) postDomainRevoke(c *gin.Context, p models.Principal) error {
	var in api.Revocation
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	wait, err := readWait(c.Request.URL.Query())
	if err != nil {
		return err
	}
	if !wait {
		if err := s.RevokeWithin(c.Request.Context(), p, c.Param("id"), c.Param("pat"), in.Reason); err != nil {
			return err
		}
		return s.answerDomainPAT(c)
	}
	reached, err := s.revokeWithinEverywhere(c, p, c.Param("id"), c.Param("pat"), in.Reason)
	if err != nil {
		return err
	}
	pat, err := s.DomainPAT(c.Request.Context(), c.Param("id"), c.Param("pat"))
	if err != nil {
		return err
	}
	writeJSON(c.Writer, http.StatusOK, api.RevokedDomainPAT{DomainPAT: s.wireDomainPAT(c.Param("id"), pat), Servers: &reached})
	return nil
}

func (s *Server) putApproval(c *gin.Context, p models.Principal) error {
	var in api.Approve
	if err := s.readBodyIfAny(c, &in); err != nil {
		return err
	}
	if _, err := s.store.ApprovePAT(c.Request.Context(), p.Actor, c.Param("id"), c.Param("pat"), in.Scopes); err != nil {
		return err
	}
	return s.answerDomainPAT(c)
}

func (s *Server) deleteApproval(c *gin.Context, p models.Principal) error {
	if _, err := s.store.WithdrawApproval(c.Request.Context(), p.Actor, c.Param("id"), c.Param("pat")); err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}
