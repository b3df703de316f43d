// Package reach lists the requests that tokens and users can make and those that they cannot. Every
// cell is a decision of the policy in force on current facts, own rules included. This package
// selects the questions and never answers one.
package reach

import (
	"context"
	"encoding/base64"
	"maps"
	"slices"
	"strings"
	"time"

	"patrol/api"
	"patrol/models"
	"patrol/server/authz"
	"patrol/server/manage"
)

// MaxCells bounds the cells of one page. A page has whole domains, and at least one.
const MaxCells = 2000

// maxJudged bounds the people that one page of an answer to who can do something goes through.
const maxJudged = 10_000

// Deps has the parts that a [Service] uses. All are required.
type Deps struct {
	Manage *manage.Service
	Authz  *authz.Authorizer
	Clock  func() time.Time
}

// Service answers. It is safe for concurrent use.
type Service struct {
	manage *manage.Service
	authz  *authz.Authorizer
	now    func() time.Time
}

// New returns a service.
func New(d Deps) *Service { return &Service{d.Manage, d.Authz, d.Clock} }

// Filter narrows what is asked. Empty fields do not narrow.
type Filter struct {
	Domain     string
	EntityType string
	After      string // where the page before ended; "": the first
}

// OfPAT decides for a token, in each domain that its scopes reach, for each entity type, the
// entities that they name and `*`, and each operation of the catalog. A scope for any domain covers
// the domains of the owner, and of a platform admin all of them.
func (s *Service) OfPAT(ctx context.Context, pat models.PAT, f Filter) ([]api.ReachCell, string, error) {
	owner, err := s.manage.FindUser(ctx, pat.UserID)
	if err != nil {
		return nil, "", err
	}
	e := s.authz.Examine()
	named, anywhere := map[string]bool{}, false
	for _, sc := range pat.Scopes {
		if anywhere = anywhere || sc.Domain == models.Any; sc.Domain != models.Any {
			named[sc.Domain] = true
		}
	}
	return s.cells(ctx, f, question{
		of: e.Token(pat, owner), catalog: e.Catalog(), user: owner, named: named, own: anywhere, token: true,
		entities: func(domain, entityType string) (list []string) {
			for _, sc := range pat.ScopesIn(domain) {
				if sc.EntityType == entityType {
					list = append(list, sc.Entity)
				}
			}
			return list
		},
	})
}

// OfDraft decides for a token with these scopes as if its owner made it now. An approval that a
// domain demands comes later, so it lacks.
func (s *Service) OfDraft(ctx context.Context, owner models.User, scopes []models.Scope, expires time.Time, f Filter) ([]api.ReachCell, string, error) {
	draft := models.PAT{ID: models.HypotheticalID, UserID: owner.ID, Name: models.HypotheticalID, Scopes: scopes, CreatedAt: s.now(), ExpiresAt: expires}
	for i := range draft.Scopes {
		draft.Scopes[i].ID = models.HypotheticalID
	}
	return s.OfPAT(ctx, draft, f)
}

// OfUser decides for a supposed token of a user, in each of their domains, for the entities that
// the catalog names and `*`.
func (s *Service) OfUser(ctx context.Context, u models.User, f Filter) ([]api.ReachCell, string, error) {
	e := s.authz.Examine()
	return s.cells(ctx, f, question{
		of: e.User(&u), catalog: e.Catalog(), user: &u, own: true,
		entities: func(_, entityType string) []string { return e.Catalog().EntityTypes[entityType].Entities },
	})
}

// question is the subject of the cells, with the domains and entities to ask for.
type question struct {
	of       *authz.Examined
	catalog  models.Catalog
	user     *models.User
	named    map[string]bool // domains
	own      bool            // and those of the user
	token    bool            // it is about a token, which can be changed
	entities func(domain, entityType string) []string
}

func (s *Service) cells(ctx context.Context, f Filter, q question) (cells []api.ReachCell, next string, err error) {
	roles := map[string]*models.Membership{}
	names := maps.Clone(q.named)
	if names == nil {
		names = map[string]bool{}
	}
	if q.user != nil {
		memberships, err := s.manage.FindMemberships(ctx, q.user.ID)
		if err != nil {
			return nil, "", err
		}
		for _, m := range memberships {
			roles[m.Domain] = &m
			names[m.Domain] = names[m.Domain] || q.own
		}
	}
	all := q.own && q.user != nil && q.user.Admin
	if all {
		domains, err := s.manage.FindDomains(ctx)
		if err != nil {
			return nil, "", err
		}
		for _, d := range domains {
			names[d.ID] = true
		}
	}
	maps.DeleteFunc(names, func(name string, wanted bool) bool { return !wanted || f.Domain != "" && name != f.Domain })
	after, err := readCursor(f.After)
	if err != nil {
		return nil, "", err
	}
	cells = []api.ReachCell{}
	last := ""
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if name <= after {
			continue
		}
		domain, err := s.manage.FindDomain(ctx, name)
		if err != nil {
			return nil, "", err
		}
		found := q.in(ctx, name, domain, roles[name], f.EntityType)
		if ctx.Err() != nil {
			return nil, "", ctx.Err()
		}
		if len(cells) > 0 && len(cells)+len(found) > MaxCells {
			return cells, base64.RawURLEncoding.EncodeToString([]byte(last)), nil
		}
		cells, last = append(cells, found...), name
	}
	return cells, "", nil
}

func readCursor(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	after, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || !models.IsEntity(string(after)) {
		var v models.Invalid
		v.Add("after", "is not a cursor of this list")
		return "", v.Err()
	}
	return string(after), nil
}

// in asks about one domain.
func (q question) in(ctx context.Context, name string, domain *models.Domain, member *models.Membership, entityType string) (cells []api.ReachCell) {
	for _, kind := range slices.Sorted(maps.Keys(q.catalog.EntityTypes)) {
		if entityType != "" && kind != entityType {
			continue
		}
		entities := map[string]bool{models.Any: true}
		for _, e := range q.entities(name, kind) {
			entities[e] = true
		}
		if kind == "domains" { // the domain itself is all that there is of this type
			entities = map[string]bool{name: true}
		}
		for _, entity := range slices.Sorted(maps.Keys(entities)) {
			for _, operation := range slices.Sorted(maps.Keys(q.catalog.EntityTypes[kind].Operations)) {
				req := models.Request{Domain: name, EntityType: kind, Entity: entity, Operation: operation}
				a := q.of.May(ctx, req, domain, member)
				cell := api.ReachCell{
					Domain: name, EntityType: kind, Entity: entity, Operation: operation, Allowed: a.Allowed, Reasons: a.Reasons,
					Waived: api.WaivedOf(a.Waived), DependsOn: a.DependsOn,
				}
				if cell.Reasons == nil {
					cell.Reasons = []models.Reason{}
				}
				for _, r := range a.Reasons {
					if text := q.lifted(r.Code, req); text != "" {
						cell.Remedy = strings.TrimSpace(cell.Remedy + " " + text)
					}
				}
				cells = append(cells, cell)
			}
		}
	}
	return cells
}

// lifted describes a change that lifts a reason; "" if none is known. Together with what lifts the other
// reasons it need not be enough: a policy may have more to say then.
func (q question) lifted(code models.ReasonCode, req models.Request) string {
	switch code {
	case models.OutOfScope:
		return "Add the scope " + req.Scope() + " to the token, or make one that has it."
	case models.RoleForbids:
		var permit []string
		for _, name := range slices.Sorted(maps.Keys(q.catalog.Roles)) {
			if q.catalog.Roles[name].Permits(req.EntityType, req.Operation) {
				permit = append(permit, name)
			}
		}
		if len(permit) == 0 {
			return "No role permits this; it is for platform admins."
		}
		return "Ask an admin of " + req.Domain + " for a role that permits it: " + strings.Join(permit, ", ") + "."
	case models.NotAMember:
		return "Ask an admin of " + req.Domain + " to make its owner a member."
	case models.DomainUnknown:
		return "Name a domain that exists."
	case models.DomainDisabled, models.DomainFrozen:
		return "Wait until a platform admin enables " + req.Domain + "."
	case models.LifetimeExceeded:
		return "Rotate the token; " + req.Domain + " takes tokens for a shorter time."
	case models.WildcardForbidden:
		return "Name the domain and the entity in a scope."
	case models.ApprovalRequired:
		return "Ask an admin of " + req.Domain + " to approve of the token."
	case models.Withdrawn:
		return "Ask an admin of " + req.Domain + " to let the token in again."
	case models.TokenRevoked, models.TokenExpired:
		return "Make a new token."
	case models.UserDisabled:
		return "Ask a platform admin to enable the account."
	case models.IPForbidden:
		return "Call from an address in the token's allowed_ips."
	}
	return ""
}
