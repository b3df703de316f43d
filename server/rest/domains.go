package rest

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/manage"
	"patrol/server/request"
)

func wireDomain(d models.Domain) api.Domain {
	return api.Domain{ID: d.ID, Name: d.Name, Status: d.Status, CreatedAt: d.CreatedAt.UTC()}
}

func (s *Surface) getDomains(c *gin.Context, p models.Principal) error {
	query := c.Request.URL.Query()
	var v models.Invalid
	filter := manage.DomainFilter{Name: query.Get("name"), Status: models.DomainStatus(query.Get("status"))}
	switch filter.Status {
	case "", models.DomainEnabled, models.DomainIsDisabled, models.DomainIsFrozen:
	default:
		v.Add("status", "must be one of enabled, disabled, frozen")
	}
	page := readPage(query, &v)
	if err := v.Err(); err != nil {
		return err
	}
	domains, next, err := s.manage.Domains(c.Request.Context(), p, filter, page)
	if err != nil {
		return err
	}
	writePage(c, domains, next, wireDomain)
	return nil
}

func (s *Surface) postDomain(c *gin.Context, p models.Principal) error {
	var in api.NewDomain
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	domain, err := s.manage.CreateDomain(c.Request.Context(), p, in)
	if err != nil {
		return err
	}
	c.Header("Location", "/api/v1/domains/"+domain.ID)
	request.WriteJSON(c.Writer, http.StatusCreated, wireDomain(domain))
	return nil
}

func (s *Surface) getDomain(c *gin.Context, p models.Principal) error {
	domain, err := s.manage.ReadableDomain(c.Request.Context(), p, c.Param("id"))
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, wireDomain(domain))
	return nil
}

func (s *Surface) patchDomain(c *gin.Context, p models.Principal) error {
	var in api.DomainPatch
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	if manage.WidensDomain(in) {
		if err := s.identity.RequireFreshAdmin(p); err != nil {
			return err
		}
	}
	domain, err := s.manage.UpdateDomain(c.Request.Context(), p, c.Param("id"), in)
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, wireDomain(domain))
	return nil
}

func (s *Surface) getMembers(c *gin.Context, _ models.Principal) error {
	query := c.Request.URL.Query()
	var v models.Invalid
	filter := manage.MemberFilter{UserID: query.Get("user_id"), Email: query.Get("email")}
	page := readPage(query, &v)
	if err := v.Err(); err != nil {
		return err
	}
	members, next, err := s.manage.Members(c.Request.Context(), c.Param("id"), filter, page)
	if err != nil {
		return err
	}
	writePage(c, members, next, func(m manage.Member) api.Member { return api.Member(m) })
	return nil
}

func (s *Surface) putMember(c *gin.Context, p models.Principal) error {
	var in api.SetMember
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	member, created, err := s.manage.SetMember(c.Request.Context(), p, c.Param("id"), c.Param("user"), in)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	request.WriteJSON(c.Writer, status, member)
	return nil
}

func (s *Surface) deleteMember(c *gin.Context, p models.Principal) error {
	if err := s.manage.RemoveMember(c.Request.Context(), p, c.Param("id"), c.Param("user")); err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}
