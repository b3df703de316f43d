package pages

import (
	"net/http"
	"net/url"
	"slices"

	"github.com/gin-gonic/gin"

	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/identity"
	"patrol/server/ui"
)

// identityPages show who people are at providers, which are ways into their accounts, and
// end that.
func (s *Surface) identityPages() []endpoint.Route {
	return []endpoint.Route{
		{Method: "GET", Path: "/admin/users/:id/anonymise", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageAnonymise},
		{Method: "POST", Path: "/admin/users/:id/anonymise", By: endpoint.PlatformAdmin, SignIn: endpoint.FreshAdmin, Page: true, Do: s.formAnonymise},
		{Method: "GET", Path: ui.IdentityPath + "/list", By: endpoint.Session, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageOwnIdentities},
		{Method: "GET", Path: ui.IdentityPath + "/:identity/disconnect", By: endpoint.Session, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageDisconnectOwn},
		{Method: "POST", Path: ui.IdentityPath + "/:identity/disconnect", By: endpoint.Session, SignIn: endpoint.FreshByForm, Page: true, Do: s.formDisconnectOwn, Accepts: endpoint.Accepts{Form: []string{"password"}}},
		{Method: "GET", Path: "/admin/users/:id/identities", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageIdentities},
		{Method: "GET", Path: "/admin/users/:id/identities/:identity/disconnect", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToRead, Page: true, Do: s.pageDisconnect},
		{Method: "POST", Path: "/admin/users/:id/identities/:identity/disconnect", By: endpoint.PlatformAdmin, SignIn: endpoint.AnyAgeToNarrow, Page: true, Do: s.formDisconnect},
	}
}

func (s *Surface) pageOwnIdentities(c *gin.Context, p models.Principal) error {
	found, err := s.identity.Identities(c.Request.Context(), p.User.ID)
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.OwnIdentities(found, s.now()))
}

// identityHere is the identity of a user that the address names.
func (s *Surface) identityHere(c *gin.Context, userID string) (models.Identity, error) {
	found, err := s.identity.Identities(c.Request.Context(), userID)
	if err != nil {
		return models.Identity{}, err
	}
	i := slices.IndexFunc(found, func(one models.Identity) bool { return one.ID() == c.Param("identity") })
	if i < 0 {
		return models.Identity{}, identity.ErrNoIdentity
	}
	return found[i], nil
}

func (s *Surface) pageDisconnectOwn(c *gin.Context, p models.Principal) error {
	one, err := s.identityHere(c, p.User.ID)
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.Disconnect(one, nil, !s.identity.Fresh(p) && !p.AtProvider, ui.Problems{}))
}

func (s *Surface) formDisconnectOwn(c *gin.Context, p models.Principal) error {
	one, err := s.identityHere(c, p.User.ID)
	if err != nil {
		return err
	}
	form, err := s.form(c)
	if err != nil {
		return err
	}
	ok, err := s.confirmedBy(c, p, form, func(problems ui.Problems) ui.Page {
		return ui.Disconnect(one, nil, true, problems)
	})
	if err != nil || !ok {
		return err
	}
	if err := s.identity.DisconnectOwn(c.Request.Context(), c.Writer, p, one.ID()); err != nil {
		return err
	}
	return s.seeOther(c, ui.IdentityPath+"/list", "The connection has ended, and so have all your other sessions.")
}

func (s *Surface) pageIdentities(c *gin.Context, p models.Principal) error {
	user, err := s.userHere(c)
	if err != nil {
		return err
	}
	found, err := s.identity.Identities(c.Request.Context(), user.ID)
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.Identities(user, found, s.now()))
}

func (s *Surface) pageDisconnect(c *gin.Context, p models.Principal) error {
	user, err := s.userHere(c)
	if err != nil {
		return err
	}
	one, err := s.identityHere(c, user.ID)
	if err != nil {
		return err
	}
	return s.show(c, p, http.StatusOK, ui.Disconnect(one, &user, false, ui.Problems{}))
}

func (s *Surface) formDisconnect(c *gin.Context, p models.Principal) error {
	user, err := s.userHere(c)
	if err != nil {
		return err
	}
	if err := s.identity.DisconnectIdentity(c.Request.Context(), p, user.ID, c.Param("identity")); err != nil {
		return err
	}
	return s.seeOther(c, "/admin/users/"+url.PathEscape(user.ID)+"/identities", "The connection has ended, and so have their sessions.")
}

// editUser is the page of an account, with its ways in.
func (s *Surface) editUser(c *gin.Context, user models.User, self bool, problems ui.Problems) (ui.Form, error) {
	found, err := s.identity.Identities(c.Request.Context(), user.ID)
	page := ui.EditUser(user, self, problems)
	page.Links = append(page.Links, ui.IdentityLinks(user, found, s.now())...)
	return page, err
}

func (s *Surface) pageAnonymise(c *gin.Context, p models.Principal) error {
	user, err := s.userHere(c)
	if err != nil {
		return err
	}
	if user.Anonymised() {
		return s.seeOther(c, "/admin/users/"+url.PathEscape(user.ID), "")
	}
	return s.show(c, p, http.StatusOK, ui.Anonymise(user))
}

func (s *Surface) formAnonymise(c *gin.Context, p models.Principal) error {
	user, err := s.manage.AnonymiseUser(c.Request.Context(), p, c.Param("id"))
	if err != nil {
		return err
	}
	return s.seeOther(c, "/admin/users/"+url.PathEscape(user.ID), "Nothing names this user any more.")
}
