package rest

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/request"
)

// wirePAT is a token's record as the API shows it: with the expiry that counts.
func (s *Surface) wirePAT(p models.PAT) api.PAT { return api.PATOf(s.manage.Counted(p), s.now()) }

// answerToken is the one kind of answer that holds a PAT's text. Answers of the
// API are never stored (see secure).
func (s *Surface) answerToken(c *gin.Context, status int, pat models.PAT, token models.Token) {
	out := s.wirePAT(pat)
	out.Token = token.Reveal()
	request.WriteJSON(c.Writer, status, out)
}

func (s *Surface) answerPAT(c *gin.Context, pat models.PAT, err error) error {
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, s.wirePAT(pat))
	return nil
}

func (s *Surface) getPATs(c *gin.Context, p models.Principal) error {
	query := c.Request.URL.Query()
	status := models.Status(query.Get("status"))
	var v models.Invalid
	switch status {
	case "", models.StatusActive, models.StatusExpired, models.StatusRevoked:
	default:
		v.Add("status", "must be one of active, expired, revoked")
	}
	page := readPage(query, &v)
	if err := v.Err(); err != nil {
		return err
	}
	pats, next, err := s.manage.PATs(c.Request.Context(), p, status, query.Get("name"), page)
	if err != nil {
		return err
	}
	writePage(c, pats, next, s.wirePAT)
	return nil
}

func (s *Surface) postPAT(c *gin.Context, p models.Principal) error {
	var in api.NewPAT
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	pat, token, err := s.manage.CreatePAT(c.Request.Context(), p, in)
	if err != nil {
		return err
	}
	c.Header("Location", "/api/v1/pats/"+pat.ID)
	s.answerToken(c, http.StatusCreated, pat, token)
	return nil
}

func (s *Surface) deletePATs(c *gin.Context, p models.Principal) error {
	if err := endpoint.AllMeant(c.Request.URL.Query(), "one is revoked by POST /api/v1/pats/{id}/revoke"); err != nil {
		return err
	}
	if _, err := s.manage.RevokeAll(c.Request.Context(), p); err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}

func (s *Surface) getSelf(c *gin.Context, p models.Principal) error {
	return s.answerPAT(c, *p.PAT, nil)
}

// deleteSelf lets a token revoke itself.
func (s *Surface) deleteSelf(c *gin.Context, p models.Principal) error {
	if err := s.manage.RevokeItself(c.Request.Context(), p); err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}

func (s *Surface) getPAT(c *gin.Context, p models.Principal) error {
	pat, err := s.manage.PAT(c.Request.Context(), p, c.Param("id"))
	return s.answerPAT(c, pat, err)
}

func (s *Surface) patchPAT(c *gin.Context, p models.Principal) error {
	var in api.PATPatch
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	pat, err := s.manage.UpdatePAT(c.Request.Context(), p, c.Param("id"), in, s.identity.Fresh(p))
	if models.CodeOf(err) == models.CodeReauthentication {
		err = s.identity.RequireFresh(p)
	}
	return s.answerPAT(c, pat, err)
}

func (s *Surface) deletePAT(c *gin.Context, p models.Principal) error {
	if err := s.manage.DeletePAT(c.Request.Context(), p, c.Param("id")); err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}

func (s *Surface) postRevoke(c *gin.Context, p models.Principal) error {
	var in api.Revocation
	if err := s.readBodyIfAny(c, &in); err != nil {
		return err
	}
	wait, err := readWait(c.Request.URL.Query())
	if err != nil {
		return err
	}
	if !wait {
		pat, err := s.manage.RevokeFor(c.Request.Context(), p, c.Param("id"), in.Reason)
		return s.answerPAT(c, pat, err)
	}
	pat, reached, err := s.manage.RevokeEverywhere(c.Request.Context(), p, c.Param("id"), in.Reason, s.extendWrite(c))
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, api.RevokedPAT{PAT: s.wirePAT(pat), Servers: &reached})
	return nil
}

// postRevokeSome revokes several tokens of the caller.
func (s *Surface) postRevokeSome(c *gin.Context, p models.Principal) error {
	var in api.SomePATs
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	revoked, err := s.manage.RevokeSome(c.Request.Context(), p, in.IDs)
	if err != nil {
		return err
	}
	writePage(c, revoked, "", s.wirePAT)
	return nil
}

func (s *Surface) postRotate(c *gin.Context, p models.Principal) error {
	var in api.Rotation
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	pat, token, err := s.manage.RotatePAT(c.Request.Context(), p, c.Param("id"), in)
	if err != nil {
		return err
	}
	s.answerToken(c, http.StatusOK, pat, token)
	return nil
}

func (s *Surface) postScope(c *gin.Context, p models.Principal) error {
	var in api.NewScope
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	pat, err := s.manage.AddScope(c.Request.Context(), p, c.Param("id"), in)
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusCreated, s.wirePAT(pat))
	return nil
}

func (s *Surface) deleteScope(c *gin.Context, p models.Principal) error {
	if _, err := s.manage.RemoveScope(c.Request.Context(), p, c.Param("id"), c.Param("scope")); err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}
