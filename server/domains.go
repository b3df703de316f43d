package server

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
)

// CreateDomain makes an enabled domain without members.
func (s *Server) CreateDomain(ctx context.Context, p models.Principal, in api.NewDomain) (models.Domain, error) {
	var v models.Invalid
	models.ValidateDomainID("id", in.ID, &v)
	models.ValidateName("name", in.Name, &v)
	if err := v.Err(); err != nil {
		return models.Domain{}, err
	}
	return s.store.CreateDomain(ctx, p.Actor, models.Domain{
		ID: in.ID, Name: in.Name, Status: models.DomainEnabled, CreatedAt: s.now(),
	})
}

// UpdateDomain changes the name and status of a domain.
func (s *Server) UpdateDomain(ctx context.Context, p models.Principal, id string, in api.DomainPatch) (models.Domain, error) {
	var v models.Invalid
	if in.Name != nil {
		models.ValidateName("name", *in.Name, &v)
	}
	if in.Status != nil {
		models.ValidateDomainStatus("status", *in.Status, &v)
	}
	if err := v.Err(); err != nil {
		return models.Domain{}, err
	}
	return s.store.UpdateDomain(ctx, p.Actor, id, store.DomainPatch{Name: in.Name, Status: in.Status})
}

// Domains returns the domains that p may know of: their own, or all for a
// platform admin.
func (s *Server) Domains(ctx context.Context, p models.Principal, page store.Page) ([]models.Domain, string, error) {
	var filter store.DomainFilter
	if !p.User.Admin {
		filter.UserID = p.User.ID
	}
	return s.store.Domains(ctx, filter, page)
}

// SetMember gives a user a role in a domain, and reports whether they had none
// before.
func (s *Server) SetMember(ctx context.Context, p models.Principal, domain, userID string, in api.SetMember) (member api.Member, created bool, err error) {
	var v models.Invalid
	if in.Role == "" {
		v.Add("role", "is required")
	} else {
		s.engine.Current().Catalog().ValidateRole("role", in.Role, &v)
	}
	if err := v.Err(); err != nil {
		return member, false, err
	}
	user, err := s.store.User(ctx, userID)
	if err != nil {
		return member, false, err
	}
	if user == nil {
		return member, false, models.NewError(models.CodeNotFound, "there is no such user")
	}
	created, err = s.store.SetMember(ctx, p.Actor, models.Membership{UserID: userID, Domain: domain, Role: in.Role})
	return api.Member{UserID: userID, Email: user.Email, Role: in.Role}, created, err
}

func wireDomain(d models.Domain) api.Domain {
	return api.Domain{ID: d.ID, Name: d.Name, Status: d.Status, CreatedAt: d.CreatedAt.UTC()}
}

func (s *Server) getDomains(c *gin.Context, p models.Principal) error {
	var v models.Invalid
	page := readPage(c.Request.URL.Query(), &v)
	if err := v.Err(); err != nil {
		return err
	}
	domains, next, err := s.Domains(c.Request.Context(), p, page)
	if err != nil {
		return err
	}
	writePage(c, domains, next, wireDomain)
	return nil
}

func (s *Server) postDomain(c *gin.Context, p models.Principal) error {
	var in api.NewDomain
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	domain, err := s.CreateDomain(c.Request.Context(), p, in)
	if err != nil {
		return err
	}
	c.Header("Location", "/api/v1/domains/"+domain.ID)
	writeJSON(c.Writer, http.StatusCreated, wireDomain(domain))
	return nil
}

func (s *Server) getDomain(c *gin.Context, p models.Principal) error {
	domain, err := s.readableDomain(c.Request.Context(), p, c.Param("id"))
	if err != nil {
		return err
	}
	writeJSON(c.Writer, http.StatusOK, wireDomain(domain))
	return nil
}

func (s *Server) patchDomain(c *gin.Context, p models.Principal) error {
	var in api.DomainPatch
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	domain, err := s.UpdateDomain(c.Request.Context(), p, c.Param("id"), in)
	if err != nil {
		return err
	}
	writeJSON(c.Writer, http.StatusOK, wireDomain(domain))
	return nil
}

func (s *Server) getMembers(c *gin.Context, _ models.Principal) error {
	var v models.Invalid
	page := readPage(c.Request.URL.Query(), &v)
	if err := v.Err(); err != nil {
		return err
	}
	members, next, err := s.store.Members(c.Request.Context(), c.Param("id"), page)
	if err != nil {
		return err
	}
	writePage(c, members, next, func(m store.Member) api.Member { return api.Member(m) })
	return nil
}

func (s *Server) putMember(c *gin.Context, p models.Principal) error {
	var in api.SetMember
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	member, created, err := s.SetMember(c.Request.Context(), p, c.Param("id"), c.Param("user"), in)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	writeJSON(c.Writer, status, member)
	return nil
}

func (s *Server) deleteMember(c *gin.Context, p models.Principal) error {
	if err := s.store.RemoveMember(c.Request.Context(), p.Actor, c.Param("user"), c.Param("id")); err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}
