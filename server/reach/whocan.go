package reach

import (
	"context"

	"patrol/api"
	"patrol/models"
	"patrol/server/manage"
)

// WhoCan lists the people who could have a token do what is asked, with those of their tokens that
// can do it now. It goes through everybody, since a policy may let people in who are no members.
func (s *Service) WhoCan(ctx context.Context, req models.Request, page manage.Page) (found []api.Able, next string, err error) {
	domain, err := s.manage.FindDomain(ctx, req.Domain)
	if err != nil || domain == nil {
		return []api.Able{}, "", err
	}
	e := s.authz.Examine()
	found = []api.Able{}
	judged, after := 0, page.After
	for {
		list, more, err := s.manage.Standings(ctx, req.Domain, manage.Page{Limit: page.Limit - len(found), After: after})
		if err != nil {
			return nil, "", err
		}
		for _, one := range list {
			a := e.User(one.User).May(ctx, req, domain, one.Membership)
			if !a.Allowed {
				continue
			}
			able := api.Able{UserID: one.User.ID, Email: one.User.Email, Admin: one.User.Admin, DependsOn: a.DependsOn, Tokens: []api.AbleToken{}}
			if one.Membership != nil {
				able.Role = &one.Membership.Role
			}
			pats, err := s.manage.LivePATsOf(ctx, one.User.ID)
			if err != nil {
				return nil, "", err
			}
			for _, pat := range pats {
				b := e.Token(pat, one.User).May(ctx, req, domain, one.Membership)
				if !b.Allowed {
					continue
				}
				able.Tokens = append(able.Tokens, api.AbleToken{ID: pat.ID, Name: pat.Name, ExpiresAt: pat.ExpiresAt.UTC(), LastUsedAt: pat.LastUsedAt, DependsOn: b.DependsOn})
			}
			found = append(found, able)
		}
		after, judged = more, judged+len(list)
		// A page may be shorter than it could be: to look for the last few would take a query each.
		if more == "" || 2*len(found) >= page.Limit || judged >= maxJudged || ctx.Err() != nil {
			return found, more, ctx.Err()
		}
	}
}
