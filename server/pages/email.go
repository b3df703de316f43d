package pages

import (
	"net/http"
	"net/url"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/identity"
	"patrol/server/ui"
)

func (s *Surface) pageNewEmail(c *gin.Context, p models.Principal) error {
	user, err := s.userHere(c)
	if err != nil {
		return err
	}
	if user.Disabled || user.ID == p.User.ID {
		return s.seeOther(c, "/admin/users/"+url.PathEscape(user.ID), "")
	}
	return s.show(c, p, http.StatusOK, ui.NewEmail(user, "", s.cfg.Login.ResetValidFor, ui.Problems{}))
}

// formNewEmail leads to the page that shows the link, once.
func (s *Surface) formNewEmail(c *gin.Context, p models.Principal) error {
	user, err := s.userHere(c)
	if err != nil {
		return err
	}
	form, err := s.form(c)
	if err != nil {
		return err
	}
	email := form.Get("email")
	change, err := s.identity.NewEmailChange(c.Request.Context(), p, user.ID, email, s.pageBase()+ui.EmailPath)
	if err != nil {
		return s.retry(c, p, err, func(problems ui.Problems) ui.Page {
			return ui.NewEmail(user, email, s.cfg.Login.ResetValidFor, problems)
		})
	}
	return s.leadToMade(c, p, "/admin/users/"+url.PathEscape(user.ID)+"/email/link", identity.Made{Secret: change.Code, URL: change.URL, Expires: change.ExpiresAt, For: change.Email})
}

func (s *Surface) pageEmailLink(c *gin.Context, p models.Principal) error {
	user, err := s.userHere(c)
	if err != nil {
		return err
	}
	what, there, err := s.identity.TakeMade(c.Writer, c.Request, p)
	if err != nil {
		return err
	}
	if !there {
		return s.seeOther(c, "/admin/users/"+url.PathEscape(user.ID), shownBefore("A link for another address", "Make another one if you did not pass it on; that one ends then."))
	}
	return s.show(c, p, http.StatusOK, ui.EmailLink{ResetLink: ui.ResetLink{User: user, Code: what.Secret, URL: what.URL, Expires: s.moment(what.Expires)}, Email: what.For})
}

func (s *Surface) pageEmail(c *gin.Context, p models.Principal) error {
	return s.show(c, p, http.StatusOK, ui.ConfirmEmail(p.User.Email, "", ui.Problems{}))
}

func (s *Surface) formEmail(c *gin.Context, p models.Principal) error {
	form, err := s.form(c)
	if err != nil {
		return err
	}
	in := api.ConfirmEmail{Code: form.Get("code")}
	user, err := s.identity.ConfirmEmail(c.Request.Context(), c.Writer, p, in)
	if err != nil {
		return s.retry(c, p, err, func(problems ui.Problems) ui.Page { return ui.ConfirmEmail(p.User.Email, in.Code, problems) })
	}
	return s.seeOther(c, "/profile/sessions", "Your address is "+user.Email+" from now on. All your other sessions have ended. Your tokens stay as they are.")
}
