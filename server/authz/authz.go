package authz

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"patrol/models"
	"patrol/policies/engine"
)

// Facts is the authorizer's source of facts. A thing that does not
// exist is (nil, nil); an error means that nobody can say. Implementations are
// safe for concurrent use and end when ctx does.
type Facts interface {
	PAT(ctx context.Context, id string) (*models.PAT, error)
	User(ctx context.Context, id string) (*models.User, error)
	Domain(ctx context.Context, id string) (*models.Domain, error)
	Membership(ctx context.Context, userID, domain string) (*models.Membership, error)
}

// Feed tells which facts were written, by whatever process.
type Feed interface {
	// FeedEnd returns the position after all changes that there are.
	FeedEnd(ctx context.Context) (models.FeedPosition, error)
	// Changes returns the changes after a position. They are not complete if there are
	// more than limit, if some of them were pruned, or if the database does not have
	// what was read before.
	Changes(ctx context.Context, after models.FeedPosition, limit int) (models.FeedPage, error)
	// DataVersion returns a number that differs if anything may have been
	// written since it was last asked, or ok false if the database has none.
	DataVersion(ctx context.Context) (version int64, ok bool, err error)
}

// Journal takes what was noticed along the way. It is never called on the path
// of a request, and a failure loses the note, nothing else.
type Journal interface {
	RecordUses(ctx context.Context, uses []models.Use) error
	// Audit records that the actor did action to subject, which is written as
	// kind:id.
	Audit(ctx context.Context, by models.Actor, action, subject string, detail map[string]string) error
}

// Metrics counts what happens. Implementations are safe for concurrent use and
// quick. No argument ever holds a secret, an id or a client's text.
type Metrics interface {
	Decided(outcome, reason, surface string, took time.Duration)
	Cache(name string, hit bool)
	// Breached counts that a policy allowed what no policy may allow, which then was
	// not, by the reason that it should have given.
	Breached(code string)
	// Waived counts an allowance in spite of a reason to deny: by an exception of the
	// policy, or else by a waiver.
	Waived(code string, exception bool)
}

// Recorder keeps decisions. Implementations are safe for concurrent use. They are
// called on the path of every request, before it is answered, so they put off
// whatever can be done later.
type Recorder interface {
	// Record takes a decision down. An error means that it is not on record and
	// that nothing may be allowed without being; then an allowance becomes a
	// denial. Whoever can live with a lost record returns nil.
	Record(ctx context.Context, r Record) error
}

// StrangersRecorder is a [Recorder] that keeps apart what anybody can make as much
// of as they like: the refusals of those who showed no token that verifies.
type StrangersRecorder interface {
	Recorder
	// Refused takes such a refusal down, whose decision has no id yet. It counts it
	// and keeps it if it likes, and returns the id that it is known by.
	Refused(ctx context.Context, r Record) (id string)
}

// Refused has recorder take down the refusal of somebody who showed no token that
// verifies, and returns its id. The recorder may be nil.
func Refused(ctx context.Context, recorder Recorder, r Record) (id string) {
	if to, ok := recorder.(StrangersRecorder); ok {
		return to.Refused(ctx, r)
	}
	r.Decision.ID = models.NewDecisionID(r.At)
	if recorder != nil {
		_ = recorder.Record(ctx, r) // a refusal needs no record
	}
	return r.Decision.ID
}

// Record is a decision with what it was made on. Its facts are shared and do not
// change. It holds no secret.
type Record struct {
	Decision models.Decision
	Request  models.Request // what was judged, as far as that is known
	Facts    engine.Facts
	Reads    engine.Reads // what the policy reads of the call
	JudgedAt time.Time    // what the policy was told as the time; zero: it was not asked
	At       time.Time
	Took     time.Duration
	Surface  string
	// RequestID is that of the request that was made for; "" if it has none. All
	// questions of one request have the same.
	RequestID string
	IP        netip.Addr
	Method    string // of a proxied request
	Path      string // likewise
	// Further says that it is not the first answer to its call, but another one of a
	// batch.
	Further bool
}

// Outcomes in metrics.
const (
	OutcomeAllow = string(models.OutcomeAllow)
	OutcomeDeny  = string(models.OutcomeDeny)
	OutcomeError = string(models.OutcomeError)
)

// Config holds the parts and settings of an [Authorizer]. Zero durations and numbers get the
// defaults of [Config.withDefaults].
type Config struct {
	Keys    models.Keyring
	Policy  *engine.Engine
	Facts   Facts
	Feed    Feed
	Journal Journal
	// Recorder keeps every decision; nil: nobody does.
	Recorder Recorder
	// Acknowledge says how far this process has applied the feed, when somebody waits
	// for it; nil: nobody does.
	Acknowledge func(ctx context.Context, at models.FeedPosition) error
	Metrics     Metrics      // nil: none
	Logger      *slog.Logger // nil: slog.Default
	Clock       func() time.Time

	// Kinds are the kinds of upstreams by domain, which say how names of models are
	// read there. Where none is named, they are compared byte for byte.
	Kinds models.DomainKinds

	MaxLifetime time.Duration // of a token, enforced at use; 0: no limit
	// Headers are those of proxied requests that policies see, in lower case.
	Headers []string
	// MaxAbsence is the age of a user's last sign-in at the identity provider from which on an
	// account without a password counts as disabled; 0: never.
	MaxAbsence    time.Duration
	FactTTL       time.Duration // default 1 h, at most 24 h; while the feed is fresh, facts are as current as it is
	MaxStaleness  time.Duration // default 5 s
	PollInterval  time.Duration // of the change feed; default 200 ms, at most 250 ms
	LookupTimeout time.Duration // for one look-up in the store; default 2 s
	CacheSize     int           // records of each kind; default 100,000
	UnknownSize   int           // unknown ids remembered; default 10,000

	MaxLookups     int // concurrent look-ups of ids that never verified; default 32
	SlowLookups    int // of these, by addresses that fail too often; default 2
	MaxFull        int // decisions at a time whose facts are read anew; default 8
	FailuresPerMin int // failed tokens per address and minute before it is slowed; default 60
	// ForeignUseEvery is the time between two notes of a token's use from an address that
	// it is not for; default 1 h.
	ForeignUseEvery time.Duration

	// MaxEvaluations bounds the evaluations that run at a time; the others wait in
	// line, which does not count against the policy's own time limit. Default:
	// GOMAXPROCS, since evaluating is nothing but computing.
	MaxEvaluations int
}

// The bounds that the contract sets.
const (
	maxFactTTL      = 24 * time.Hour
	maxPollInterval = 250 * time.Millisecond
)

func (c Config) withDefaults() Config {
	setDefault(&c.FactTTL, time.Hour)
	setDefault(&c.MaxStaleness, 5*time.Second)
	setDefault(&c.PollInterval, 200*time.Millisecond)
	setDefault(&c.LookupTimeout, 2*time.Second)
	setDefault(&c.CacheSize, 100_000)
	setDefault(&c.UnknownSize, 10_000)
	setDefault(&c.MaxLookups, 32)
	setDefault(&c.SlowLookups, 2)
	setDefault(&c.MaxFull, 8)
	setDefault(&c.FailuresPerMin, 60)
	setDefault(&c.ForeignUseEvery, time.Hour)
	setDefault(&c.MaxEvaluations, runtime.GOMAXPROCS(0))
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Metrics == nil {
		c.Metrics = noMetrics{}
	}
	return c
}

func setDefault[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

// Validate reports every setting that cannot work.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	check := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Policy == nil || c.Facts == nil || c.Feed == nil || c.Journal == nil, "authz needs a policy, facts, a feed and a journal")
	check(c.FactTTL < 0 || c.FactTTL > maxFactTTL, "fact ttl %s is not between 0 and %s", c.FactTTL, maxFactTTL)
	check(c.PollInterval < time.Millisecond || c.PollInterval > maxPollInterval, "poll interval %s is not between 1ms and %s", c.PollInterval, maxPollInterval)
	check(c.MaxStaleness <= c.PollInterval, "max staleness %s must be longer than the poll interval %s", c.MaxStaleness, c.PollInterval)
	check(c.LookupTimeout <= 0, "look-up timeout must be positive")
	check(c.MaxLifetime < 0, "max lifetime must not be negative")
	check(c.CacheSize < 1 || c.UnknownSize < 1, "cache sizes must be positive")
	check(c.MaxLookups < 1 || c.SlowLookups < 1 || c.SlowLookups > c.MaxLookups, "look-up limits must be positive, the slow lane no wider than the whole")
	check(c.MaxFull < 1, "concurrent decisions on facts read anew must be positive")
	check(c.FailuresPerMin < 1, "failures per minute must be positive")
	check(c.ForeignUseEvery < 0, "the time between notes of uses from elsewhere must be positive")
	for domain, kind := range c.Kinds {
		check(!kind.Known(), "%.40q, the kind of the upstream of %s, is none of %s", kind, domain, models.KindList())
	}
	check(c.MaxEvaluations < 1, "concurrent evaluations must be positive")
	return errors.Join(errs...)
}

// Authorizer decides. It is safe for concurrent use.
type Authorizer struct {
	cfg     Config
	facts   *facts
	feed    feedState
	pollNow chan struct{} // holds a signal when the feed is to be read
	turns   chan struct{} // a place per concurrent evaluation
	anew    chan struct{} // a place per decision on facts that are read anew
	uses    *useLog
	holds   holds

	// Lines of the log about callers who showed no token that verifies are bounded.
	untold   rate.Sometimes
	unlogged atomic.Int64 // since the last such line
}

// New returns an Authorizer. Until [Authorizer.Run] has read the change feed
// once, every call reads the store.
func New(cfg Config) (*Authorizer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	a := &Authorizer{
		cfg: cfg, uses: newUseLog(cfg), turns: make(chan struct{}, cfg.MaxEvaluations),
		pollNow: make(chan struct{}, 1), anew: make(chan struct{}, cfg.MaxFull),
		untold: rate.Sometimes{First: 10, Interval: time.Second},
	}
	a.facts = newFacts(cfg, a.fresh)
	cfg.Policy.OnSwap(a.holds.wakeAll)
	return a, nil
}

// Call is one question, as a surface puts it.
type Call struct {
	Token   string // as it was presented; "" if none was
	Request models.Request
	// Kind is the kind of the upstream that the request goes to, where the caller
	// knows better than [Config.Kinds]; "" if not.
	Kind models.UpstreamKind
	// KeepsNames says that the names of models in a proxied request are forwarded as
	// they are spelled there.
	KeepsNames bool
	Surface    string // "authorize", "gateway", …: a fixed set, it labels metrics
	// RequestID is that of the request that asks, for the record. It holds nothing
	// secret.
	RequestID string
	IP        netip.Addr
	UserAgent string
	// Client is the sender of the request if another program asks for it; nil: IP and UserAgent.
	Client *models.Client

	// Full has the facts read from the store, whatever is cached.
	Full bool

	method, path string // of a proxied request, for the record
	further      bool   // not the first request of a batch
	inquiry      bool   // nobody showed the token; see [Authorizer.Inquire]
	http         *models.ProxiedFacts
}

// AllowedFrom reports whether a token may be used from the address of a call that does
// not ask the policy. If not, that is noted for its owner.
func (a *Authorizer) AllowedFrom(pat models.PAT, call Call) bool {
	if pat.AllowsFrom(call.client().IP) {
		return true
	}
	a.uses.noteForeign(pat, call)
	return false
}

// client returns the sender of the request.
func (c *Call) client() models.Client {
	client := models.Client{IP: c.IP, UserAgent: c.UserAgent}
	if c.Client != nil {
		client = *c.Client
	}
	client.IP = client.IP.Unmap().WithZone("")
	client.UserAgent = strings.ToValidUTF8(client.UserAgent[:min(len(client.UserAgent), models.MaxUserAgent)], "")
	return client
}

// Authorize decides whether the holder of the token may do what the request
// says. The request must be valid (see [models.Request.Validate]).
func (a *Authorizer) Authorize(ctx context.Context, call Call) models.Decision {
	start := a.cfg.Clock()
	look := a.look()
	rec, code, cause := a.verify(ctx, look, call)
	if code != "" {
		return a.conclude(ctx, call, nil, refusal(code, cause), start)
	}
	rec, v := a.judgeInTime(ctx, a.cfg.Policy.Current(), look, call, rec)
	return a.conclude(ctx, call, rec, v, start)
}

// judgeInTime judges on facts that are no older than they may be when it is done.
func (a *Authorizer) judgeInTime(ctx context.Context, policy judge, l look, call Call, rec *tokenRecord) (*tokenRecord, verdict) {
	if call.Full {
		return a.judgeAnew(ctx, policy, call, rec)
	}
	v := a.judge(ctx, policy, l, rec, &call, call.Request)
	if v.Allowed && a.outdated(l) {
		return a.judgeAnew(ctx, policy, call, rec)
	}
	return rec, v
}

// judgeAnew judges on what the store says now. The secret has verified. What does not
// allow also drops what is cached, so that no later question is answered by it.
func (a *Authorizer) judgeAnew(ctx context.Context, policy judge, call Call, rec *tokenRecord) (*tokenRecord, verdict) {
	release, err := a.enterAnew(ctx)
	if err != nil {
		return rec, refusal(models.Unavailable, err)
	}
	defer release()
	look := a.lookAnew()
	found, err := a.facts.token(ctx, look.how, rec.pat.ID, call.IP)
	if err != nil {
		return rec, refusal(models.Unavailable, fmt.Errorf("look up the token anew: %w", err))
	}
	token, err := models.ParseToken(call.Token)
	if err != nil || found == nil || !a.cfg.Keys.Verify(token, found.pat.KeyID, found.pat.MAC) {
		a.facts.drop(models.Change{Kind: models.ChangeToken, Key: rec.pat.ID})
		return nil, refusal(models.TokenUnknown, nil)
	}
	found.lastNoted.Store(max(found.lastNoted.Load(), rec.lastNoted.Load()))
	v := a.judge(ctx, policy, look, found, &call, call.Request)
	if !v.Allowed {
		a.facts.drop(models.Change{Kind: models.ChangeToken, Key: found.pat.ID})
		a.facts.drop(models.Change{Kind: models.ChangeUser, Key: found.pat.UserID})
		a.facts.drop(models.Change{Kind: models.ChangeDomain, Key: call.Request.Domain})
		a.facts.drop(models.Change{Kind: models.ChangeMembership, Key: found.pat.UserID, Key2: call.Request.Domain})
	}
	return found, v
}

// enterAnew waits for a place to read the store for one decision: whoever holds a
// token could ask it without end.
func (a *Authorizer) enterAnew(ctx context.Context) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.LookupTimeout)
	defer cancel()
	select {
	case a.anew <- struct{}{}:
		return func() { <-a.anew }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waited in vain for a place to read the facts anew: %w", ctx.Err())
	}
}

// AuthorizeBatch decides several requests of one token, verifying it once. The
// decisions come in the order of the requests.
func (a *Authorizer) AuthorizeBatch(ctx context.Context, call Call, requests []models.Request) []models.Decision {
	start := a.cfg.Clock()
	look := a.look()
	rec, code, verifyCause := a.verify(ctx, look, call)
	policy := a.cfg.Policy.Current().Series()
	defer policy.End()
	out := make([]models.Decision, len(requests))
	for i, req := range requests {
		call.Request, call.further = req, i > 0
		if code != "" {
			out[i] = a.conclude(ctx, call, nil, refusal(code, verifyCause), start)
			continue
		}
		judged, v := a.judgeInTime(ctx, policy, look, call, rec)
		out[i] = a.conclude(ctx, call, judged, v, start)
		start = a.cfg.Clock()
	}
	return out
}

// verify finds the token's record and verifies the secret. Nothing of the
// record's state is looked at before. code is a reason to deny, or ""; cause is
// what kept the token from being looked up.
func (a *Authorizer) verify(ctx context.Context, l look, call Call) (rec *tokenRecord, code models.ReasonCode, cause error) {
	if call.Token == "" {
		return nil, models.TokenMissing, nil
	}
	token, err := models.ParseToken(call.Token)
	if err != nil {
		return nil, models.TokenMalformed, nil //nolint:nilerr // the reason says all that the error does
	}
	rec, err = a.facts.token(ctx, l.how, token.ID, call.IP)
	if err != nil {
		return nil, models.Unavailable, fmt.Errorf("look up the token: %w", err)
	}
	var keyID string
	var mac []byte
	if rec != nil {
		keyID, mac = rec.pat.KeyID, rec.pat.MAC
	}
	verified := a.cfg.Keys.Verify(token, keyID, mac)
	if !verified && rec != nil && a.cfg.Keys.Status(keyID) == models.KeyUnknown {
		// The token may be as good as any: another server has the key.
		return nil, models.Unavailable, fmt.Errorf("the token was hashed with the key %q, which the ring of this server does not have; see 'patrol keys status'", keyID)
	}
	if !verified {
		a.facts.lookups.failed(call.IP)
		return nil, models.TokenUnknown, nil
	}
	if !rec.proved.Load() { // to look costs less than to write, which other processors notice
		rec.proved.Store(true)
		a.facts.lookups.proved(token.ID, proof{keyID, mac})
	}
	return rec, "", nil
}

// Verified returns the id of a token that has verified here before and whose secret is
// right. It looks nothing up and decides nothing: the token may have ended since.
func (a *Authorizer) Verified(text string) (id string, ok bool) {
	token, err := models.ParseToken(text)
	if err != nil {
		return "", false
	}
	by, ok := a.facts.lookups.proven.GetIfPresent(token.ID)
	if !ok || !a.cfg.Keys.Verify(token, by.keyID, by.mac) {
		return "", false
	}
	return token.ID, true
}

// Apply drops what the changes name from the cache and has streams that depend
// on it judged again. The store calls it for this process's own writes, after
// the commit and before the write returns.
func (a *Authorizer) Apply(changes []models.Change) {
	for _, c := range changes {
		a.facts.drop(c)
	}
	a.holds.wake(changes)
}

// Ready returns nil if decisions can be made on current facts, else why not.
func (a *Authorizer) Ready() error {
	if a.cfg.Policy.Current() == nil {
		return errors.New("no policy is loaded")
	}
	if !a.fresh() {
		return fmt.Errorf("the change feed was last read %s ago", a.FeedLag().Round(time.Millisecond))
	}
	return nil
}

type noMetrics struct{}

func (noMetrics) Decided(string, string, string, time.Duration) {}
func (noMetrics) Cache(string, bool)                            {}
func (noMetrics) Breached(string)                               {}
func (noMetrics) Waived(string, bool)                           {}
