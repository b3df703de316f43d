package rest

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/manage"
	"patrol/server/request"
)

// wireDomainPAT is a token as a domain's admins see it.
func (s *Surface) wireDomainPAT(domain string, o manage.OwnedPAT) api.DomainPAT {
	p := s.wirePAT(o.PAT)
	out := api.DomainPAT{
		ID: p.ID, Name: p.Name, Status: p.Status, UserID: o.UserID, Email: o.Email, Scopes: p.Scopes,
		CreatedAt: p.CreatedAt, ExpiresAt: p.ExpiresAt, AllowedIPs: append([]string{}, p.AllowedIPs...), LastUsedAt: p.LastUsedAt,
		RevokedAt: p.RevokedAt, RevokedBy: p.RevokedBy, RevokedDomain: p.RevokedDomain, RevokedReason: p.RevokedReason,
	}
	if a := o.ApprovedBy(domain); a != nil {
		out.ApprovedAt = manage.UTC(&a.At)
	}
	if w := o.WithdrawnFrom(domain); w != nil {
		out.WithdrawnAt, out.WithdrawnReason = manage.UTC(&w.At), &w.Reason
	}
	return out
}

// readSearch reads what lists of others' tokens are filtered by.
func readSearch(query url.Values, v *models.Invalid) manage.PATSearch {
	search := manage.PATSearch{
		UserID: query.Get("user_id"), Email: query.Get("email"), Name: query.Get("name"), Status: models.Status(query.Get("status")),
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

func (s *Surface) getDomainPATs(c *gin.Context, _ models.Principal) error {
	query, domain := c.Request.URL.Query(), c.Param("id")
	var v models.Invalid
	search := readSearch(query, &v)
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
	found, next, err := s.manage.SearchPATsWithin(c.Request.Context(), domain, search, page)
	if err != nil {
		return err
	}
	writePage(c, found, next, func(o manage.OwnedPAT) api.DomainPAT { return s.wireDomainPAT(domain, o) })
	return nil
}

func (s *Surface) answerDomainPAT(c *gin.Context) error {
	pat, err := s.manage.DomainPAT(c.Request.Context(), c.Param("id"), c.Param("pat"))
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, s.wireDomainPAT(c.Param("id"), pat))
	return nil
}

func (s *Surface) getDomainPAT(c *gin.Context, _ models.Principal) error { return s.answerDomainPAT(c) }

func (s *Surface) postDomainRevoke(c *gin.Context, p models.Principal) error {
	var in api.Revocation
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	wait, err := readWait(c.Request.URL.Query())
	if err != nil {
		return err
	}
	if !wait {
		if err := s.manage.RevokeWithin(c.Request.Context(), p, c.Param("id"), c.Param("pat"), in.Reason); err != nil {
			return err
		}
		return s.answerDomainPAT(c)
	}
	reached, err := s.manage.RevokeWithinEverywhere(c.Request.Context(), p, c.Param("id"), c.Param("pat"), in.Reason, s.extendWrite(c))
	if err != nil {
		return err
	}
	pat, err := s.manage.DomainPAT(c.Request.Context(), c.Param("id"), c.Param("pat"))
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, api.RevokedDomainPAT{DomainPAT: s.wireDomainPAT(c.Param("id"), pat), Servers: &reached})
	return nil
}

func (s *Surface) putApproval(c *gin.Context, p models.Principal) error {
	var in api.Approve
	if err := s.readBodyIfAny(c, &in); err != nil {
		return err
	}
	if err := s.manage.ApprovePAT(c.Request.Context(), p, c.Param("id"), c.Param("pat"), in.Scopes); err != nil {
		return err
	}
	return s.answerDomainPAT(c)
}

func (s *Surface) putWithdrawal(c *gin.Context, p models.Principal) error {
	var in api.Withdraw
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	if err := s.manage.WithdrawPAT(c.Request.Context(), p, c.Param("id"), c.Param("pat"), in.Reason); err != nil {
		return err
	}
	return s.answerDomainPAT(c)
}

func (s *Surface) deleteWithdrawal(c *gin.Context, p models.Principal) error {
	if err := s.manage.AdmitPAT(c.Request.Context(), p, c.Param("id"), c.Param("pat")); err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}

func (s *Surface) deleteApproval(c *gin.Context, p models.Principal) error {
	if err := s.manage.WithdrawApproval(c.Request.Context(), p, c.Param("id"), c.Param("pat")); err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}
