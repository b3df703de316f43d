package manage

import (
	"context"
	"io"
	"log/slog"
	"time"

	"patrol/models"
	"patrol/models/store"
	"patrol/policies/engine"
	"patrol/server/window"
)

// Config holds the settings of a [Service].
type Config struct {
	Limits models.Limits
	// LogRetention and LogMaxRows bound what the decision log keeps, to be told beside how
	// far back it reaches.
	LogRetention time.Duration
	LogMaxRows   int64
	Playground   PlaygroundConfig
	// FoundPerMinute bounds the reports of found tokens that are taken from one address.
	FoundPerMinute int
	Lookups        int // people that one admin of a domain may look up in a minute
	// MaxAbsence is the age of a user's last sign-in at the identity provider from which on an
	// account without a password counts as disabled; 0: never.
	MaxAbsence time.Duration
}

// Hasher hashes passwords; it is an *identity.Passwords.
type Hasher interface {
	Hash(ctx context.Context, password string) (string, error)
}

// Deps has the parts that a [Service] uses. All but Decisions, Shadow, Playground and ID are
// required.
type Deps struct {
	Store      *store.Store
	Decisions  *store.Decisions // nil: decisions are not kept in a database
	Engine     *engine.Engine
	Policy     Policy
	Shadow     Shadow     // nil: no second policy is judged
	Playground Playground // nil: nobody may try policies
	Passwords  Hasher
	Keys       models.Keyring
	ID         string // under which the store knows this server; "": it does not
	Logger     *slog.Logger
	Clock      func() time.Time
	Random     io.Reader
}

// Service does what can be done. It is safe for concurrent use.
type Service struct {
	cfg        Config
	store      *store.Store
	decided    *store.Decisions
	engine     *engine.Engine
	policy     Policy
	shadow     Shadow
	playground Playground
	passwords  Hasher
	keys       models.Keyring
	id         string
	log        *slog.Logger
	now        func() time.Time
	random     io.Reader

	asking  chan struct{} // a place for each look at what other servers acknowledged
	reader  *policyReader
	trials  trials
	lookups trials
	found   trials
	refused *window.Once // of attempts at tokens of platform admins; see noteRefused
}

// New returns a service.
func New(cfg Config, deps Deps) *Service {
	return &Service{
		cfg: cfg, store: deps.Store, decided: deps.Decisions, engine: deps.Engine, policy: deps.Policy, shadow: deps.Shadow,
		playground: deps.Playground, passwords: deps.Passwords, keys: deps.Keys, id: deps.ID, log: deps.Logger, now: deps.Clock, random: deps.Random,
		asking: make(chan struct{}, maxAsking), reader: newPolicyReader(deps.Policy.Permit), trials: trials{byUser: window.NewRecent[string](maxTriers)},
		lookups: trials{byUser: window.NewRecent[string](maxTriers)},
		found:   trials{byUser: window.NewRecent[string](maxTriers)},
		refused: window.NewOnce(time.Minute, maxTriers),
	}
}
