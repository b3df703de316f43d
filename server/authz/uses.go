package authz

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"patrol/models"
)

// useLog notes when tokens were used and writes it down off the path of
// requests: at most once a minute per token, in batches. What it holds is
// bounded; past the bound, and when a write fails, notes are lost.
type useLog struct {
	journal Journal
	logger  *slog.Logger
	clock   func() time.Time

	mu      sync.Mutex
	pending []models.Use
	retired []retiredUse
	foreign []retiredUse // from addresses that the token is not for; they have no successor
	// What was noted lately, by token. Uses of retired tokens, and those from elsewhere, which
	// are news, have room of their own.
	recent, recentlyRetired, recentlyForeign map[string]time.Time
	foreignEvery                             time.Duration
}

// retiredUse is the use of a token that has a successor and is dead: somebody
// still has the old secret.
type retiredUse struct {
	models.Use
	userID, successor string
}

const (
	useEvery      = time.Minute
	flushEvery    = time.Second
	flushTimeout  = 5 * time.Second
	maxUsesHeld   = 50_000
	maxAgentBytes = 256
)

func newUseLog(cfg Config) *useLog {
	return &useLog{
		journal: cfg.Journal, logger: cfg.Logger, clock: cfg.Clock,
		recent: map[string]time.Time{}, recentlyRetired: map[string]time.Time{},
		recentlyForeign: map[string]time.Time{}, foreignEvery: cfg.ForeignUseEvery,
	}
}

// note takes down that rec was presented at now, verified, and got d as the
// answer. It costs an atomic load unless a minute has gone by since the last
// note, the token is retired, or it was refused for the client's address.
func (l *useLog) note(rec *tokenRecord, call Call, d models.Decision, now time.Time) {
	retired := rec.pat.RotatedTo != "" && (d.Has(models.TokenRevoked) || d.Has(models.TokenExpired))
	last := rec.lastNoted.Load()
	due := now.Unix()-last >= int64(useEvery/time.Second) && rec.lastNoted.CompareAndSwap(last, now.Unix())
	foreign := !d.Allowed && !rec.pat.AllowsFrom(call.client().IP)
	if !due && !retired && !foreign {
		return
	}
	use := useOf(rec.pat, call, now)
	l.mu.Lock()
	defer l.mu.Unlock()
	if due && claim(l.recent, use.TokenID, now, useEvery) {
		l.pending = append(l.pending, use)
	}
	if retired && claim(l.recentlyRetired, use.TokenID, now, useEvery) {
		l.retired = append(l.retired, retiredUse{Use: use, userID: rec.pat.UserID, successor: rec.pat.RotatedTo})
	}
	if foreign {
		l.addForeign(rec.pat, use)
	}
}

// noteForeign takes down that a token was presented from an address that it is not for.
func (l *useLog) noteForeign(pat models.PAT, call Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.addForeign(pat, useOf(pat, call, l.clock()))
}

// addForeign notes such a use unless one of the token was noted lately. l.mu is held.
func (l *useLog) addForeign(pat models.PAT, use models.Use) {
	if claim(l.recentlyForeign, use.TokenID, use.At, l.foreignEvery) {
		l.foreign = append(l.foreign, retiredUse{Use: use, userID: pat.UserID})
	}
}

func useOf(pat models.PAT, call Call, now time.Time) models.Use {
	from := call.client()
	use := models.Use{TokenID: pat.ID, At: now, UserAgent: truncate(from.UserAgent, maxAgentBytes)}
	if from.IP.IsValid() {
		use.IP = from.IP.String()
	}
	return use
}

// claim reports whether a token may be noted at now, and if so remembers it. A
// reload of the record does not make it forget.
func claim(recent map[string]time.Time, id string, now time.Time, every time.Duration) bool {
	if t, ok := recent[id]; ok && now.Sub(t) < every || len(recent) >= maxUsesHeld {
		return false
	}
	recent[id] = now
	return true
}

func (l *useLog) run(ctx context.Context) {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			l.flush(context.WithoutCancel(ctx))
			return
		case <-tick.C:
			l.flush(ctx)
		}
	}
}

// flush writes what is pending and forgets notes of which another may be made.
func (l *useLog) flush(ctx context.Context) {
	now := l.clock()
	l.mu.Lock()
	uses, retired, foreign := l.pending, l.retired, l.foreign
	l.pending, l.retired, l.foreign = nil, nil, nil
	for _, recent := range [...]map[string]time.Time{l.recent, l.recentlyRetired} {
		maps.DeleteFunc(recent, func(_ string, t time.Time) bool { return now.Sub(t) >= useEvery })
	}
	maps.DeleteFunc(l.recentlyForeign, func(_ string, t time.Time) bool { return now.Sub(t) >= l.foreignEvery })
	l.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	if len(uses) > 0 {
		if err := l.journal.RecordUses(ctx, uses); err != nil {
			l.logger.Warn("the last use of some tokens was not recorded", "tokens", len(uses), "error", err)
		}
	}
	audit := func(r retiredUse, action string, detail map[string]string) error {
		by := models.Actor{Kind: models.ActorToken, UserID: r.userID, TokenID: r.TokenID, IP: r.IP, UserAgent: r.UserAgent}
		return l.journal.Audit(ctx, by, action, "pat:"+r.TokenID, detail)
	}
	for _, r := range retired {
		if err := audit(r, "pat.retired_use", map[string]string{"rotated_to": r.successor}); err != nil {
			l.logger.Warn("the use of a retired token was not recorded", "token_id", r.TokenID, "error", err)
		}
	}
	for _, r := range foreign {
		if err := audit(r, "pat.ip_forbidden", map[string]string{"user_id": r.userID, "ip": r.IP}); err != nil {
			l.logger.Warn("the use of a token from an address that it is not for was not recorded", "token_id", r.TokenID, "error", err)
		}
	}
}

// truncate cuts s to at most n bytes, not inside a character.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}
