package decisionlog

import (
	"sync"
	"time"

	"patrol/models"
)

// counts adds up decisions until they are written.
type counts struct {
	mu       sync.Mutex
	outcomes map[outcomeKey]int64
	used     map[useKey]*use
	days     map[int64]*models.LoggedDay
	refusals map[refusalKey]*models.CountedRefusals
	since    time.Time // when they were last taken
}

type refusalKey struct {
	minute  int64 // Unix seconds
	address string
	reason  models.ReasonCode
}

type outcomeKey struct {
	day     int64 // Unix seconds
	token   string
	outcome models.Outcome
	reason  models.ReasonCode
}

type useKey struct {
	day                                                 int64
	token, scope, domain, entityType, entity, operation string
}

type use struct {
	count int64
	last  time.Time
}

func newCounts() *counts {
	return &counts{outcomes: map[outcomeKey]int64{}, used: map[useKey]*use{}, days: map[int64]*models.LoggedDay{}, refusals: map[refusalKey]*models.CountedRefusals{}}
}

// maxCounted bounds the different things that are counted before they are written
// ahead of time.
const maxCounted = 50_000

// due reports whether it is time to write.
func (c *counts) due(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return now.Sub(c.since) >= countEvery || len(c.used)+len(c.outcomes)+len(c.refusals) >= maxCounted
}

func (c *counts) add(l *models.LoggedDecision) {
	day := models.DayOf(l.At).Unix()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.day(day).Recorded++
	c.outcomes[outcomeKey{day, l.TokenID, l.Outcome(), l.FirstReason()}]++
	if !l.Allowed || l.Surface == models.SurfaceInquiry {
		return // nobody used the token
	}
	r := l.Request
	key := useKey{day, l.TokenID, l.ScopeID, r.Domain, r.EntityType, r.Entity, r.Operation}
	u := c.used[key]
	if u == nil {
		u = &use{}
		c.used[key] = u
	}
	u.count++
	if l.At.After(u.last) {
		u.last = l.At
	}
}

// refused adds refusals without a token that verifies.
func (c *counts) refused(r models.CountedRefusals) {
	outcome := models.OutcomeDeny
	if r.Reason == models.Unavailable {
		outcome = models.OutcomeError
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outcomes[outcomeKey{models.DayOf(r.From).Unix(), "", outcome, r.Reason}] += r.Decisions
	c.refusal(r)
}

// refusal adds to the counts by address. Where there are too many of these, it
// does not tell addresses apart. The caller holds mu.
func (c *counts) refusal(r models.CountedRefusals) {
	if len(c.refusals) >= maxCounted {
		r.Address = ""
	}
	key := refusalKey{r.From.Unix(), r.Address, r.Reason}
	if sum := c.refusals[key]; sum != nil {
		sum.Add(r)
		return
	}
	c.refusals[key] = &r
}

func (c *counts) drop(at time.Time, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.day(models.DayOf(at).Unix()).Dropped += n
}

func (c *counts) day(unix int64) *models.LoggedDay {
	d := c.days[unix]
	if d == nil {
		d = &models.LoggedDay{Day: time.Unix(unix, 0).UTC()}
		c.days[unix] = d
	}
	return d
}

// take returns what was counted and begins anew.
func (c *counts) take(now time.Time) models.DecisionCounts {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since = now
	var out models.DecisionCounts
	for k, n := range c.outcomes {
		out.Outcomes = append(out.Outcomes, models.CountedOutcome{Day: time.Unix(k.day, 0).UTC(), TokenID: k.token, Outcome: k.outcome, Reason: k.reason, Count: n})
	}
	for k, u := range c.used {
		out.Used = append(out.Used, models.UsedScope{
			Day: time.Unix(k.day, 0).UTC(), TokenID: k.token, ScopeID: k.scope,
			Domain: k.domain, EntityType: k.entityType, Entity: k.entity, Operation: k.operation, Count: u.count, LastAt: u.last,
		})
	}
	for _, d := range c.days {
		out.Days = append(out.Days, *d)
	}
	for _, r := range c.refusals {
		out.Refusals = append(out.Refusals, *r)
	}
	clear(c.refusals)
	clear(c.outcomes)
	clear(c.used)
	clear(c.days)
	return out
}

// restore puts back what could not be written, while there is room.
func (c *counts) restore(taken models.DecisionCounts) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range taken.Days {
		day := c.day(d.Day.Unix())
		day.Recorded += d.Recorded
		day.Dropped += d.Dropped
	}
	for _, r := range taken.Refusals {
		c.refusal(r)
	}
	if len(c.used)+len(c.outcomes)+len(taken.Used)+len(taken.Outcomes) > 4*maxCounted {
		for _, d := range c.days { // not knowing is told as not having seen
			d.Dropped, d.Recorded = d.Dropped+d.Recorded, 0
		}
		return
	}
	for _, o := range taken.Outcomes {
		c.outcomes[outcomeKey{o.Day.Unix(), o.TokenID, o.Outcome, o.Reason}] += o.Count
	}
	for _, t := range taken.Used {
		key := useKey{t.Day.Unix(), t.TokenID, t.ScopeID, t.Domain, t.EntityType, t.Entity, t.Operation}
		u := c.used[key]
		if u == nil {
			u = &use{}
			c.used[key] = u
		}
		u.count += t.Count
		if t.LastAt.After(u.last) {
			u.last = t.LastAt
		}
	}
}
