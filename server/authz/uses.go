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
	// What was noted in the last minute, by token. Uses of retired tokens, which are
	// news, have room of their own.
	recent, recentlyRetired map[string]time.Time
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
	}
}

// note takes down that rec was presented at now, verified, and got d as the
// answer. It costs an atomic load unless a minute has gone by since the last
// note, or the token is retired.
func (l *useLog) note(rec *tokenRecord, call Call, d models.Decision, now time.Time) {
	retired := rec.pat.RotatedTo != "" && (d.Has(models.TokenRevoked) || d.Has(models.TokenExpired))
	last := rec.lastNoted.Load()
	due := now.Unix()-last >= int64(useEvery/time.Second) && rec.lastNoted.CompareAndSwap(last, now.Unix())
	if !due && !retired {
		return
	}
	from := call.client()
	use := models.Use{TokenID: rec.pat.ID, At: now, UserAgent: truncate(from.UserAgent, maxAgentBytes)}
	if from.IP.IsValid() {
		use.IP = from.IP.String()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if due && claim(l.recent, use.TokenID, now) {
		l.pending = append(l.pending, use)
	}
	if retired && claim(l.recentlyRetired, use.TokenID, now) {
		l.retired = append(l.retired, retiredUse{Use: use, userID: rec.pat.UserID, successor: rec.pat.RotatedTo})
	}
}

// claim reports whether a token may be noted at now, and if so remembers it. A
// reload of the record does not make it forget.
func claim(recent map[string]time.Time, id string, now time.Time) bool {
	if t, ok := recent[id]; ok && now.Sub(t) < useEvery || len(recent) >= maxUsesHeld {
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

// flush writes what is pending and forgets notes older than a minute.
func (l *useLog) flush(ctx context.Context) {
	now := l.clock()
	l.mu.Lock()
	uses, retired := l.pending, l.retired
	l.pending, l.retired = nil, nil
	for _, recent := range [...]map[string]time.Time{l.recent, l.recentlyRetired} {
		maps.DeleteFunc(recent, func(_ string, t time.Time) bool { return now.Sub(t) >= useEvery })
	}
	l.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	if len(uses) > 0 {
		if err := l.journal.RecordUses(ctx, uses); err != nil {
			l.logger.Warn("the last use of some tokens was not recorded", "tokens", len(uses), "error", err)
		}
	}
	for _, r := range retired {
		by := models.Actor{Kind: models.ActorToken, UserID: r.userID, TokenID: r.TokenID, IP: r.IP, UserAgent: r.UserAgent}
		err := l.journal.Audit(ctx, by, "pat.retired_use", "pat:"+r.TokenID, map[string]string{"rotated_to": r.successor})
		if err != nil {
			l.logger.Warn("the use of a retired token was not recorded", "token_id", r.TokenID, "error", err)
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
