package pages

import (
	"net/http"
	"net/url"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/ui"
)

// purgePageRoutes are the pages that remove what is kept of dead tokens.
func (s *Surface) purgePageRoutes() []endpoint.Route {
	return []endpoint.Route{
		{Method: "GET", Path: ui.PurgePath, By: endpoint.Owner, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pagePurge},
		{Method: "POST", Path: ui.PurgePath, By: endpoint.Owner, SignIn: endpoint.AnyAgeForOwn, Page: true, Do: s.formPurge, Accepts: endpoint.Accepts{Form: []string{"older_than"}}},
		{Method: "GET", Path: ui.AnyPurgePath, By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageAnyPurge, Accepts: endpoint.Accepts{Query: []string{"user", "all"}}},
		{Method: "POST", Path: ui.AnyPurgePath, By: endpoint.PlatformAdmin, SignIn: endpoint.FreshAdmin, Page: true, Do: s.formAnyPurge, Accepts: endpoint.Accepts{Form: []string{"older_than", "user", "all"}}},
	}
}

func (s *Surface) pagePurge(c *gin.Context, p models.Principal) error {
	return s.show(c, p, http.StatusOK, ui.Purge("", ui.Problems{}))
}

func (s *Surface) formPurge(c *gin.Context, p models.Principal) error {
	form, err := s.form(c)
	if err != nil {
		return err
	}
	age, err := purgeAge(form)
	if err == nil {
		var done api.Purged
		if done, err = s.manage.PurgePATs(c.Request.Context(), p, age); err == nil {
			return s.seeOther(c, patsPage, ui.Purged(done.Purged, done.More))
		}
	}
	if problems, ok := ui.ProblemsOf(err); ok {
		return s.again(c, p, err, ui.Purge(age, problems))
	}
	return err
}

// purgeAge returns the time for which the tokens must be dead. A form without it must not mean all.
func purgeAge(form url.Values) (string, error) {
	switch age := form.Get("older_than"); {
	case age == ui.PurgeAnyTime:
		return "", nil
	case !endpoint.Blank(age):
		return age, nil
	}
	var v models.Invalid
	v.Add("older_than", "is required")
	return "", v.Err()
}

// purgedOf is the user whose tokens are meant, nil for everybody, which must be said.
func (s *Surface) purgedOf(c *gin.Context, values url.Values) (*models.User, error) {
	id, all := values.Get("user"), values.Get("all")
	if (id == "") == (all == "") || all != "" && all != "true" {
		var v models.Invalid
		v.Add("all", "must be true where no user says whose tokens are meant, and left out where one does")
		return nil, v.Err()
	}
	if id == "" {
		return nil, nil //nolint:nilnil // as the comment above says
	}
	user, err := s.manage.User(c.Request.Context(), id)
	return &user, err
}

func (s *Surface) pageAnyPurge(c *gin.Context, p models.Principal) error {
	user, err := s.purgedOf(c, c.Request.URL.Query())
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.PurgeAny(user, "", ui.Problems{}))
}

func (s *Surface) formAnyPurge(c *gin.Context, p models.Principal) error {
	form, err := s.form(c)
	if err != nil {
		return err
	}
	user, err := s.purgedOf(c, form)
	if err != nil {
		return err
	}
	in, back := api.Purge{All: user == nil}, "/admin/pats"
	if user != nil {
		in.UserID, back = user.ID, "/admin/users/"+url.PathEscape(user.ID)
	}
	if in.OlderThan, err = purgeAge(form); err == nil {
		var done api.Purged
		if done, err = s.manage.PurgeAnyPATs(c.Request.Context(), p, in); err == nil {
			return s.seeOther(c, back, ui.Purged(done.Purged, done.More))
		}
	}
	if problems, ok := ui.ProblemsOf(err); ok {
		return s.again(c, p, err, ui.PurgeAny(user, in.OlderThan, problems))
	}
	return err
}
