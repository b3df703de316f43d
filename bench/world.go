package bench

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"time"

	"patrol/models"
	"patrol/models/store"
	"patrol/policies/engine"
)

// domain is where all of a World happens.
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
}

// MaxAllocs is the bar for one evaluation.
func (c Case) MaxAllocs() int {
	if c.Allowed {
		return 110
	}
	return 160
}

// Cases returns an allowed request of every holder first, then denials: an
// everyday one, and those with the most reasons that can come together.
func (w *World) Cases() []Case {
	now := w.Domain.CreatedAt.Add(time.Hour)
	all := make([]engine.Facts, len(w.Holders))
	for i, h := range w.Holders {
		all[i] = engine.Facts{
			Token:      engine.TokenValue(h.PAT),
			User:       engine.UserValue(h.User),
			Domain:     engine.DomainValue(w.Domain),
			Membership: engine.MembershipValue(h.Membership),
		}
	}
	h, facts := w.Holders[0], all[0]
	foreign := Request()
	foreign.Operation = "write" // neither the role nor a scope permits it

	frozen := w.Domain
	frozen.Status = models.DomainIsFrozen
	frozenFacts := facts
	frozenFacts.Domain = engine.DomainValue(frozen)

	dead, gone := h.PAT, h.User
	dead.RevokedAt, dead.ExpiresAt = &dead.CreatedAt, dead.CreatedAt
	gone.Disabled = true
	deadFacts := facts
	deadFacts.Token, deadFacts.User = engine.TokenValue(dead), engine.UserValue(gone)

	return []Case{
		{"allow", Request(), true, all, now},
		{"deny", foreign, false, []engine.Facts{facts}, now},
		{"deny_403", foreign, false, []engine.Facts{frozenFacts}, now},
		{"deny_401", Request(), false, []engine.Facts{deadFacts}, now},
	}
}

// Request returns the request that every holder may make.
func Request() models.Request {
	return models.Request{Domain: domain, EntityType: "models", Entity: "llama3:8b", Operation: "execute"}
}
