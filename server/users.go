package server

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
)

// CreateUser makes an account. Without a password nobody can sign in to it yet.
func (s *Server) CreateUser(ctx context.Context, p models.Principal, in api.NewUser) (models.User, error) {
	user, err := s.newUser(ctx, in, false)
	if err != nil {
		return models.User{}, err
	}
	return s.store.CreateUser(ctx, p.Actor, user)
}

// newUser validates an account and hashes its password.
func (s *Server) newUser(ctx context.Context, in api.NewUser, passwordRequired bool) (models.User, error) {
	user := models.User{Email: models.NormalizeEmail(in.Email), Name: in.Name, Admin: in.Admin, Policy: in.Policy, CreatedAt: s.now()}
	var v models.Invalid
	models.ValidateEmail("email", user.Email, &v)
	models.ValidateName("name", user.Name, &v)
	if in.Password != "" || passwordRequired {
		models.ValidatePassword("password", in.Password, user.Email, &v)
	}
	if err := v.Err(); err != nil {
		return models.User{}, err
	}
	if in.Password == "" {
		return user, nil
	}
	var err error
	user.PasswordHash, err = s.passwords.Hash(ctx, in.Password)
	return user, err
}

// UpdateUser changes an account. Nobody disables or demotes themselves: an admin
// who did so by mistake could not undo it.
func (s *Server) UpdateUser(ctx context.Context, p models.Principal, id string, in api.UserPatch) (models.User, error) {
	if in.Name != nil {
		var v models.Invalid
		models.ValidateName("name", *in.Name, &v)
		if err := v.Err(); err != nil {
			return models.User{}, err
		}
	}
	if id == p.User.ID && (in.Disabled != nil && *in.Disabled || in.Admin != nil && !*in.Admin) {
		return models.User{}, models.NewError(models.CodeConflict, "you cannot disable your own account or give up being its admin; another admin can")
	}
	return s.store.UpdateUser(ctx, p.Actor, id, store.UserPatch{Name: in.Name, Admin: in.Admin, Policy: in.Policy, Disabled: in.Disabled})
}

func (s *Server) getUsers(c *gin.Context, _ models.Principal) error {
	var v models.Invalid
	page := readPage(c.Request.URL.Query(), &v)
	if err := v.Err(); err != nil {
		return err
	}
	users, next, err := s.store.Users(c.Request.Context(), store.UserFilter{}, page)
	if err != nil {
		return err
	}
	writePage(c, users, next, api.UserOf)
	return nil
}

func (s *Server) postUser(c *gin.Context, p models.Principal) error {
	var in api.NewUser
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	user, err := s.CreateUser(c.Request.Context(), p, in)
	if err != nil {
		return err
	}
	c.Header("Location", "/api/v1/users/"+user.ID)
	writeJSON(c.Writer, http.StatusCreated, api.UserOf(user))
	return nil
}

func (s *Server) getUser(c *gin.Context, _ models.Principal) error {
	user, err := s.store.User(c.Request.Context(), c.Param("id"))
	if err != nil {
		return err
	}
	if user == nil {
		return models.NewError(models.CodeNotFound, "there is no such user")
	}
	writeJSON(c.Writer, http.StatusOK, api.UserOf(*user))
	return nil
}

func (s *Server) patchUser(c *gin.Context, p models.Principal) error {
	var in api.UserPatch
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	user, err := s.UpdateUser(c.Request.Context(), p, c.Param("id"), in)
	if err != nil {
		return err
	}
	writeJSON(c.Writer, http.StatusOK, api.UserOf(user))
	return nil
}
