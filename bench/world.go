package bench

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"time"

	"patrol/bench/frozen"
	"patrol/models"
	"patrol/models/store"
	"patrol/policies/engine"
)

// domain is the one domain of a World.
const domain = "acme"

// tokensPerUser stays under the default limit of live tokens.
const tokensPerUser = 50

// World is a made-up set of people and tokens.
type World struct {
	Keys     models.Keyring
	KeysText string // the ring in the form of the setting PATROL_TOKEN_KEYS
	Domain   models.Domain
	Holders  []Holder
}

// Holder is one token and what is known about its owner.
type Holder struct {
	Token      models.Token
	PAT        models.PAT
	User       models.User
	Membership models.Membership
}

// NewWorld makes up that many tokens, each with ten scopes and 30 days to live,
// owned by plain members of the domain.
func NewWorld(tokens int, now time.Time) (*World, error) {
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	ring := "bench:" + base64.StdEncoding.EncodeToString(secret)
	keys, err := models.ParseKeyring(ring)
	if err != nil {
		return nil, err
	}
	now = now.UTC().Truncate(time.Second)
	w := &World{
		Keys: keys, KeysText: ring,
		Domain: models.Domain{ID: domain, Name: "Acme", Status: models.DomainEnabled, CreatedAt: now},
	}
	var owner models.User
	for i := range tokens {
		if i%tokensPerUser == 0 {
			n := i/tokensPerUser + 1
			owner = models.User{ID: models.NewID(), Email: fmt.Sprintf("user%d@example.com", n), Name: fmt.Sprintf("User %d", n), CreatedAt: now}
		}
		token, err := models.Mint(rand.Reader)
		if err != nil {
			return nil, err
		}
		mac, keyID := keys.Sum(token)
		w.Holders = append(w.Holders, Holder{
			Token: token,
			PAT: models.PAT{
				ID: token.ID, UserID: owner.ID, Name: fmt.Sprintf("token-%d", i), KeyID: keyID, MAC: mac,
				Scopes: tenScopes(), CreatedAt: now, ExpiresAt: now.AddDate(0, 0, 30),
			},
			User:       owner,
			Membership: models.Membership{UserID: owner.ID, Domain: domain, Role: "member"},
		})
	}
	return w, nil
}

func tenScopes() []models.Scope {
	var scopes []models.Scope
	for _, s := range [...][3]string{
		{"models", models.Any, "read"},
		{"models", models.Any, "execute"},
		{"models", "llama3:8b", "read"},
		{"models", "mistral:7b", "execute"},
		{"datasets", models.Any, "read"},
		{"datasets", models.Any, "write"},
		{"datasets", "train", "read"},
		{"datasets", "eval", "read"},
		{"datasets", "eval", "write"},
		{"domains", domain, "read"},
	} {
		scopes = append(scopes, models.Scope{ID: models.NewID(), Domain: domain, EntityType: s[0], Entity: s[1], Operation: s[2]})
	}
	return scopes
}

// Save writes everybody and everything to an empty database.
func (w *World) Save(ctx context.Context, s *store.Store) error {
	by := models.Actor{Kind: models.ActorSystem}
	if _, err := s.CreateDomain(ctx, by, w.Domain); err != nil {
		return fmt.Errorf("save the domain: %w", err)
	}
	for i, h := range w.Holders {
		if i%tokensPerUser == 0 {
			if _, err := s.CreateUser(ctx, by, h.User); err != nil {
				return fmt.Errorf("save a user: %w", err)
			}
			if _, err := s.SetMember(ctx, by, h.Membership); err != nil {
				return fmt.Errorf("save a membership: %w", err)
			}
		}
		if _, err := s.CreatePAT(ctx, by, h.PAT); err != nil {
			return fmt.Errorf("save a token: %w", err)
		}
	}
	return nil
}

// Case is a request with the facts it is judged by, for one holder or several
// who make it in turn.
type Case struct {
	Name    string
	Request models.Request
	Allowed bool
	Facts   []engine.Facts
	Now     time.Time

	// Before are the same facts for the policy and the evaluation of before.
	Before []frozen.Facts
	// MaxAllocs and MaxRatio are the bars for one evaluation: allocations, and CPU as a
	// part of what the evaluation of before takes.
	MaxAllocs int64
	MaxRatio  float64
}

// Cases returns an allowed request of every holder first, then one where the domain has
// limits, then denials: with one reason, with several, and of who is not known.
func (w *World) Cases() []Case {
	now := w.Domain.CreatedAt.Add(time.Hour)
	facts := func(pat models.PAT, user models.User, domain models.Domain, member models.Membership) (engine.Facts, frozen.Facts) {
		now := engine.Facts{
			Token: engine.TokenValue(pat), User: engine.UserValue(user), Domain: engine.DomainValue(domain), Membership: engine.MembershipValue(member),
		}
		before := frozen.Facts{
			Token: frozen.TokenValue(pat), User: frozen.UserValue(user), Domain: frozen.DomainValue(domain), Membership: frozen.MembershipValue(member),
		}
		return now, before
	}
	all, before := make([]engine.Facts, len(w.Holders)), make([]frozen.Facts, len(w.Holders))
	for i, h := range w.Holders {
		all[i], before[i] = facts(h.PAT, h.User, w.Domain, h.Membership)
	}
	h := w.Holders[0]
	one := func(name string, change func(req *models.Request, pat *models.PAT, user *models.User, domain *models.Domain)) Case {
		req, pat, user, domain := Request(), h.PAT, h.User, w.Domain
		change(&req, &pat, &user, &domain)
		f, b := facts(pat, user, domain, h.Membership)
		return Case{Name: name, Request: req, Facts: []engine.Facts{f}, Before: []frozen.Facts{b}, Now: now}
	}
	bars := func(c Case, allowed bool, allocs int64, ratio float64) Case {
		c.Allowed, c.MaxAllocs, c.MaxRatio = allowed, allocs, ratio
		return c
	}
	return []Case{
		{Name: "allow", Request: Request(), Allowed: true, Facts: all, Before: before, Now: now, MaxAllocs: 16, MaxRatio: 0.12},
		bars(one("allow_limits", func(_ *models.Request, _ *models.PAT, _ *models.User, domain *models.Domain) {
			domain.Limits = models.DomainLimits{MaxLifetime: 48 * time.Hour}
		}), true, 20, 0.10),
		bars(one("deny_one", func(_ *models.Request, pat *models.PAT, _ *models.User, _ *models.Domain) {
			pat.Scopes = pat.Scopes[len(pat.Scopes)-1:]
		}), false, 32, 0.12),
		bars(one("deny_403", func(req *models.Request, _ *models.PAT, _ *models.User, domain *models.Domain) {
			req.Operation, domain.Status = "write", models.DomainIsFrozen // neither the role nor a scope permits it
		}), false, 64, 0.15),
		bars(one("deny_401", func(_ *models.Request, pat *models.PAT, user *models.User, _ *models.Domain) {
			pat.RevokedAt, pat.ExpiresAt, user.Disabled = &pat.CreatedAt, pat.CreatedAt, true
		}), false, 45, 0.30),
	}
}

// Request returns the request that every holder may make.
func Request() models.Request {
	return models.Request{Domain: domain, EntityType: "models", Entity: "llama3:8b", Operation: "execute"}
}
