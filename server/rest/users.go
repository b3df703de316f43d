package rest

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/manage"
	"patrol/server/request"
)

func (s *Surface) getUsers(c *gin.Context, _ models.Principal) error {
	query := c.Request.URL.Query()
	var v models.Invalid
	filter := manage.UserFilter{Email: query.Get("email"), Name: query.Get("name")}
	switch status := query.Get("status"); status {
	case "":
	case "enabled", "disabled":
		disabled := status == "disabled"
		filter.Disabled = &disabled
	default:
		v.Add("status", "must be one of enabled, disabled")
	}
	page := readPage(query, &v)
	if err := v.Err(); err != nil {
		return err
	}
	users, next, err := s.manage.Users(c.Request.Context(), filter, page)
	if err != nil {
		return err
	}
	writePage(c, users, next, api.UserOf)
	return nil
}

func (s *Surface) postUser(c *gin.Context, p models.Principal) error {
	var in api.NewUser
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	user, err := s.manage.CreateUser(c.Request.Context(), p, in)
	if err != nil {
		return err
	}
	c.Header("Location", "/api/v1/users/"+user.ID)
	request.WriteJSON(c.Writer, http.StatusCreated, api.UserOf(user))
	return nil
}

func (s *Surface) getUser(c *gin.Context, _ models.Principal) error {
	user, err := s.manage.User(c.Request.Context(), c.Param("id"))
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, api.UserOf(user))
	return nil
}

func (s *Surface) patchUser(c *gin.Context, p models.Principal) error {
	var in api.UserPatch
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	if manage.WidensUser(in) {
		if err := s.identity.RequireFreshAdmin(p); err != nil {
			return err
		}
	}
	user, err := s.manage.UpdateUser(c.Request.Context(), p, c.Param("id"), in)
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, api.UserOf(user))
	return nil
}
