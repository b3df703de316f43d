package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
	"patrol/models/store/storetest"
)

// openLog opens a decision log with its schema on the database at url.
func openLog(t testing.TB, url string, clock *storetest.Clock) *store.Decisions {
	t.Helper()
	c := store.Config{URL: store.DecisionsURL(url)}
	if clock != nil {
		c.Clock = clock.Now
	}
	d, err := store.OpenDecisions(t.Context(), c, false)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	_, _, err = d.Migrate(context.Background())
	require.NoError(t, err)
	return d
}

// madeAt is an allowance of a token's, made at a time.
func madeAt(at time.Time, edit ...func(*models.LoggedDecision)) models.LoggedDecision {
	l := models.LoggedDecision{
		Decision: models.Decision{
			ID: models.NewDecisionID(at), Allowed: true, TokenID: "t1", UserID: "u1", ScopeID: "s1", Revision: "r1",
		},
		At: at, Took: 12345 * time.Nanosecond, Surface: "authorize", RequestID: "request-1", RequestedBy: "192.0.2.7",
		Request: models.Request{Domain: "acme", EntityType: "models", Entity: "llama3:8b", Operation: "read"},
		Input: &models.DecisionInput{
			Token: models.NewFact(`{"id":"t1"}`), User: models.NewFact(`{"id":"u1"}`), Domain: models.NewFact(`{"id":"acme"}`),
			Membership: models.NewFact(`{"role":"member"}`), Context: `{"n":10000000000000000001}`, Now: at.Unix(),
		},
	}
	for _, f := range edit {
		f(&l)
	}
	return l
}

func denied(codes ...models.ReasonCode) func(*models.LoggedDecision) {
	return func(l *models.LoggedDecision) {
		l.Allowed, l.ScopeID, l.Reasons = false, "", nil
		for _, c := range codes {
			l.Reasons = append(l.Reasons, models.Reason{Code: c, Message: "No: " + string(c) + `, "really".`})
		}
	}
}

func TestDecisionsComeBackAsTheyWere(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		clock := storetest.NewClock()
		d := openLog(t, url, clock)
		at := clock.Now()
		all := []models.LoggedDecision{
			madeAt(at),
			madeAt(at.Add(time.Millisecond), denied(models.NotAMember, models.OutOfScope), func(l *models.LoggedDecision) {
				l.Input.Membership, l.Input.Context = nil, ""
				l.Method, l.Path, l.Headers = "POST", "/v1/chat", map[string]string{"X-A": "b"}
				l.Erased, l.Masked = []string{"/input/a"}, []string{"/input/b"}
			}),
			madeAt(at.Add(2*time.Millisecond), denied(models.TokenUnknown), func(l *models.LoggedDecision) {
				l.Input, l.TokenID, l.UserID = nil, "", ""
			}),
		}
		require.NoError(t, d.Add(t.Context(), all))
		for i, want := range all {
			got, err := d.Decision(t.Context(), want.ID)
			require.NoError(t, err)
			require.NotNil(t, got)
			assert.Equal(t, all[i], *got)
		}
		missing, err := d.Decision(t.Context(), "nothing")
		require.NoError(t, err)
		assert.Nil(t, missing)

		var oldestFirst []models.LoggedDecision
		require.NoError(t, d.Each(t.Context(), store.DecisionFilter{}, func(l models.LoggedDecision) error {
			oldestFirst = append(oldestFirst, l)
			return nil
		}))
		assert.Equal(t, all, oldestFirst)
		stop := errors.New("enough")
		assert.ErrorIs(t, d.Each(t.Context(), store.DecisionFilter{}, func(models.LoggedDecision) error { return stop }), stop)
	})
}

func TestLatestDecisions(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		d := openLog(t, url, nil)
		start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		var batch []models.LoggedDecision
		var replayable []string
		for i := range 2500 { // more than are read at a time
			l := madeAt(start.Add(time.Duration(i) * time.Second))
			if i%5 == 0 {
				l.Input = nil
			} else {
				replayable = append(replayable, l.ID)
			}
			batch = append(batch, l)
		}
		require.NoError(t, d.Add(t.Context(), batch))
		for name, c := range map[string]struct {
			filter store.DecisionFilter
			limit  int
			want   []string
		}{
			"none":                         {limit: 0},
			"one":                          {limit: 1, want: replayable[1999:]},
			"some":                         {limit: 3, want: replayable[1997:]},
			"more than are read at a time": {limit: 1500, want: replayable[500:]},
			"all":                          {limit: 2000, want: replayable},
			"more than there are":          {limit: 9999, want: replayable},
			"of a time":                    {filter: store.DecisionFilter{Since: start.Add(2490 * time.Second)}, limit: 100, want: replayable[1992:]},
			"of one that there is none of": {filter: store.DecisionFilter{TokenID: "t2"}, limit: 100},
		} {
			var got []string
			require.NoError(t, d.Latest(t.Context(), c.filter, c.limit, func(l models.LoggedDecision) error {
				require.NotNil(t, l.Input)
				got = append(got, l.ID)
				return nil
			}))
			assert.Equal(t, c.want, got, name)
		}

		// Decisions that are added while others are read are not among them.
		n := 0
		require.NoError(t, d.Latest(t.Context(), store.DecisionFilter{}, 1500, func(models.LoggedDecision) error {
			if n++; n == 1 {
				return d.Add(t.Context(), []models.LoggedDecision{madeAt(start.Add(time.Hour)), madeAt(start.Add(time.Hour))})
			}
			return nil
		}))
		assert.Equal(t, 1500, n)
		stop := errors.New("stop")
		assert.ErrorIs(t, d.Latest(t.Context(), store.DecisionFilter{}, 5, func(models.LoggedDecision) error { return stop }), stop)
	})
}

func TestAddingDecisionsAgainChangesNothing(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		d := openLog(t, url, nil)
		var batch []models.LoggedDecision
		for i := range 200 { // more than one statement writes
			batch = append(batch, madeAt(time.UnixMilli(1_700_000_000_000+int64(i))))
		}
		require.NoError(t, d.Add(t.Context(), nil))
		require.NoError(t, d.Add(t.Context(), batch[:150]))
		require.NoError(t, d.Add(t.Context(), batch), "the first part is there already")
		require.NoError(t, d.Add(t.Context(), batch))
		var ids []string
		require.NoError(t, d.Each(t.Context(), store.DecisionFilter{}, func(l models.LoggedDecision) error {
			ids = append(ids, l.ID)
			return nil
		}))
		require.Len(t, ids, 200)
		for i := range batch {
			assert.Equal(t, batch[i].ID, ids[i])
		}
	})
}

func TestDecisionsAreListedByFilter(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		d := openLog(t, url, nil)
		start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		var batch []models.LoggedDecision
		add := func(name string, edit ...func(*models.LoggedDecision)) {
			l := madeAt(start.Add(time.Duration(len(batch))*time.Minute), edit...)
			l.Surface = name
			batch = append(batch, l)
		}
		add("a")
		add("b", denied(models.OutOfScope))
		add("c", denied(models.NotAMember, models.OutOfScope))
		add("d", denied(models.Unavailable))
		add("e", func(l *models.LoggedDecision) { l.TokenID, l.UserID, l.RequestID = "t2", "u2", "request-2" })
		add("f", func(l *models.LoggedDecision) { l.Request.Domain, l.Revision, l.RequestID = "beta", "r2", "" })
		require.NoError(t, d.Add(t.Context(), batch))
		for _, c := range []struct {
			name   string
			filter store.DecisionFilter
			want   string
		}{
			{"all", store.DecisionFilter{}, "fedcba"},
			{"token", store.DecisionFilter{TokenID: "t2"}, "e"},
			{"user", store.DecisionFilter{UserID: "u1"}, "fdcba"},
			{"domain", store.DecisionFilter{Domain: "beta"}, "f"},
			{"allow", store.DecisionFilter{Outcome: models.OutcomeAllow}, "fea"},
			{"deny", store.DecisionFilter{Outcome: models.OutcomeDeny}, "cb"},
			{"error", store.DecisionFilter{Outcome: models.OutcomeError}, "d"},
			{"first reason", store.DecisionFilter{Reason: models.NotAMember}, "c"},
			{"any reason", store.DecisionFilter{Reason: models.OutOfScope}, "cb"},
			{"a part of a reason", store.DecisionFilter{Reason: "out_of"}, ""},
			{"a wildcard", store.DecisionFilter{Reason: "out%scope"}, ""},
			{"surface", store.DecisionFilter{Surface: "d"}, "d"},
			{"request", store.DecisionFilter{Request: "request-1"}, "dcba"},
			{"another request", store.DecisionFilter{Request: "request-2", UserID: "u2"}, "e"},
			{"revision", store.DecisionFilter{Revision: "r2"}, "f"},
			{"since", store.DecisionFilter{Since: start.Add(4 * time.Minute)}, "fe"},
			{"until", store.DecisionFilter{Until: start.Add(time.Minute)}, "a"},
			{"together", store.DecisionFilter{UserID: "u1", Domain: "acme", Since: start.Add(time.Minute)}, "dcb"},
			{"unstorable", store.DecisionFilter{Domain: "\x00"}, ""},
		} {
			for _, limit := range []int{1, 2, 50} {
				got, page := "", store.Page{Limit: limit}
				for {
					list, next, err := d.Decisions(t.Context(), c.filter, page)
					require.NoError(t, err, c.name)
					for _, l := range list {
						got += l.Surface
						assert.Nil(t, l.Input, "lists are short")
					}
					if page.After = next; next == "" {
						break
					}
				}
				assert.Equal(t, c.want, got, c.name)
			}
			got := ""
			require.NoError(t, d.Each(t.Context(), c.filter, func(l models.LoggedDecision) error { got = l.Surface + got; return nil }))
			assert.Equal(t, c.want, got, c.name)
		}
		_, _, err := d.Decisions(t.Context(), store.DecisionFilter{}, store.Page{After: "x"})
		assert.Equal(t, models.CodeInvalid, models.CodeOf(err))
	})
}

func TestCountsAddUp(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		d := openLog(t, url, nil)
		monday := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
		tuesday := monday.AddDate(0, 0, 1)
		used := func(day time.Time, entity string, n int64) models.UsedScope {
			return models.UsedScope{
				Day: day, TokenID: "t1", ScopeID: "s1", Domain: "acme", EntityType: "models", Entity: entity, Operation: "read",
				Count: n, LastAt: day.Add(time.Duration(n) * time.Second),
			}
		}
		for range 2 {
			require.NoError(t, d.AddCounts(t.Context(), models.DecisionCounts{
				Outcomes: []models.CountedOutcome{
					{Day: monday, TokenID: "t1", Outcome: models.OutcomeAllow, Count: 3},
					{Day: tuesday, TokenID: "t1", Outcome: models.OutcomeDeny, Reason: models.OutOfScope, Count: 1},
					{Day: tuesday, TokenID: "t2", Outcome: models.OutcomeAllow, Count: 5},
				},
				Used: []models.UsedScope{used(monday, "a", 2), used(tuesday, "a", 1), used(tuesday, "b", 4)},
				Days: []models.LoggedDay{{Day: monday, Recorded: 3}, {Day: tuesday, Recorded: 6, Dropped: 2}},
			}))
		}
		outcomes, err := d.CountedOutcomes(t.Context(), "t1", monday.Add(time.Hour))
		require.NoError(t, err)
		assert.Equal(t, []models.CountedOutcome{
			{Day: monday, TokenID: "t1", Outcome: models.OutcomeAllow, Count: 6},
			{Day: tuesday, TokenID: "t1", Outcome: models.OutcomeDeny, Reason: models.OutOfScope, Count: 2},
		}, outcomes)
		byToken, err := d.UsedScopes(t.Context(), []string{"t1"}, monday)
		require.NoError(t, err)
		assert.False(t, byToken["t1"].More)
		uses := byToken["t1"].Scopes
		require.Len(t, uses, 2)
		assert.Equal(t, []any{"a", int64(6), tuesday.Add(time.Second)}, []any{uses[0].Entity, uses[0].Count, uses[0].LastAt})
		assert.Equal(t, []any{"b", int64(8)}, []any{uses[1].Entity, uses[1].Count})
		byToken, err = d.UsedScopes(t.Context(), []string{"t1"}, tuesday)
		require.NoError(t, err)
		assert.Equal(t, int64(2), byToken["t1"].Scopes[0].Count)
		first, err := d.FirstLoggedDay(t.Context())
		require.NoError(t, err)
		assert.Equal(t, &monday, first)
		days, err := d.LoggedDays(t.Context(), tuesday)
		require.NoError(t, err)
		assert.Equal(t, []models.LoggedDay{{Day: tuesday, Recorded: 12, Dropped: 4}}, days)

		prune(t, d, models.LogBounds{Before: monday, CountsBefore: tuesday})
		outcomes, err = d.CountedOutcomes(t.Context(), "t1", monday)
		require.NoError(t, err)
		assert.Len(t, outcomes, 1)
	})
}

func prune(t *testing.T, d *store.Decisions, b models.LogBounds) models.LogReach {
	t.Helper()
	reach, err := d.PruneDecisions(t.Context(), b)
	require.NoError(t, err)
	return reach
}

func TestOldDecisionsArePruned(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		clock := storetest.NewClock()
		d := openLog(t, url, clock)
		var ids []string
		for i := range 10 {
			at := clock.Now()
			l := madeAt(at, func(l *models.LoggedDecision) {
				l.Input.Token = models.NewFact(fmt.Sprintf(`{"id":"t1","n":%d}`, i))
			})
			ids = append(ids, l.ID)
			require.NoError(t, d.Add(t.Context(), []models.LoggedDecision{l}))
			clock.Advance(time.Hour)
		}
		left := func() (found []string) {
			t.Helper()
			require.NoError(t, d.Each(t.Context(), store.DecisionFilter{}, func(l models.LoggedDecision) error {
				require.NotNil(t, l.Input)
				require.NotNil(t, l.Input.User, "a fact that is still referred to stays")
				found = append(found, l.ID)
				return nil
			}))
			return found
		}
		facts := func() (n int) {
			require.NoError(t, raw(t, store.DecisionsURL(url)).QueryRow("SELECT COUNT(*) FROM decision_facts").Scan(&n))
			return n
		}
		require.Equal(t, 13, facts(), "ten tokens and three that they share")
		prune(t, d, models.LogBounds{Before: clock.Now().Add(-6 * time.Hour)})
		assert.Equal(t, ids[4:], left(), "by age")
		prune(t, d, models.LogBounds{MaxRows: 100})
		assert.Equal(t, ids[4:], left())
		prune(t, d, models.LogBounds{MaxRows: 2})
		assert.Equal(t, ids[8:], left(), "by number")
		assert.Equal(t, 7, facts(), "two tokens, two that are too young to judge, and three that they share")
		prune(t, d, models.LogBounds{Before: clock.Now().Add(24 * time.Hour)})
		assert.Empty(t, left())
		assert.Zero(t, facts())
	})
}

func TestTheHashKeyIsTheSameForEverybody(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		one, err := openLog(t, url, nil).HashKey(t.Context())
		require.NoError(t, err)
		other, err := openLog(t, url, nil).HashKey(t.Context())
		require.NoError(t, err)
		assert.Len(t, one, 32)
		assert.Equal(t, one, other)
	})
}

func TestDecisionsURL(t *testing.T) {
	for url, want := range map[string]string{
		"sqlite:///var/lib/patrol/patrol.db": "sqlite:///var/lib/patrol/patrol-decisions.db",
		"sqlite://data/records":              "sqlite://data/records-decisions.db",
		"postgres://u:p@host/patrol":         "postgres://u:p@host/patrol",
	} {
		assert.Equal(t, want, store.DecisionsURL(url))
	}
}

func about(token, user string) func(*models.LoggedDecision) {
	return func(l *models.LoggedDecision) { l.TokenID, l.UserID = token, user }
}

// noise is a refusal of somebody who showed no token that verifies.
func noise(l *models.LoggedDecision) {
	denied(models.TokenUnknown)(l)
	l.TokenID, l.UserID, l.Input = "", "", nil
}

func TestNoTokenDisplacesTheDecisionsOfAnother(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		d := openLog(t, url, nil)
		var batch []models.LoggedDecision
		add := func(n int, edit func(*models.LoggedDecision)) {
			for range n {
				batch = append(batch, madeAt(start.Add(time.Duration(len(batch))*time.Second), edit))
			}
		}
		add(3, about("quiet", "ann"))
		add(20, noise)
		add(300, about("flood", "eve"))
		add(100, about("flood 2", "eve"))
		add(5, about("other", "eve"))
		add(90, about("busy", "bob"))
		add(1000, noise)
		require.NoError(t, d.Add(t.Context(), batch))
		rows := func() map[string]int {
			t.Helper()
			found := map[string]int{}
			require.NoError(t, d.Each(t.Context(), store.DecisionFilter{}, func(l models.LoggedDecision) error {
				found[l.TokenID]++
				return nil
			}))
			return found
		}
		reach := prune(t, d, models.LogBounds{})
		assert.Equal(t, map[string]int{"quiet": 3, "flood": 300, "flood 2": 100, "other": 5, "busy": 90, "": 1020}, rows(), "no bound")
		assert.False(t, reach.Verified.CutShort(start, time.Hour))
		assert.Equal(t, []any{int64(498), int64(1020), "flood", int64(300)}, []any{reach.Verified.Rows, reach.Refused.Rows, reach.Busiest, reach.BusiestRows})
		assert.Equal(t, start, *reach.Verified.Since())

		reach = prune(t, d, models.LogBounds{MaxRows: 10_000, RefusedRows: 100})
		assert.Equal(t, map[string]int{"quiet": 3, "flood": 300, "flood 2": 100, "other": 5, "busy": 90, "": 100}, rows(), "noise has a bound of its own")
		assert.Nil(t, reach.Verified.CutTo)
		require.NotNil(t, reach.Refused.CutTo)
		assert.Equal(t, batch[len(batch)-100].At, *reach.Refused.Since(), "the latest stay")

		reach = prune(t, d, models.LogBounds{MaxRows: 400})
		assert.Equal(t, map[string]int{"quiet": 3, "flood": 152, "flood 2": 100, "other": 5, "busy": 90, "": 50}, rows(), "who has most loses, and noise has an eighth at most")
		require.NotNil(t, reach.Verified.CutTo)
		assert.Equal(t, batch[23+300-152].At, *reach.Verified.Since())
		assert.True(t, reach.Verified.CutShort(batch[23+300-152].At.Add(time.Hour), 2*time.Hour))
		assert.False(t, reach.Verified.CutShort(batch[23+300-152].At.Add(time.Hour), time.Hour))

		prune(t, d, models.LogBounds{MaxRows: 160})
		assert.Equal(t, map[string]int{"quiet": 3, "flood": 32, "flood 2": 32, "other": 5, "busy": 68, "": 20}, rows(), "by user, and of a user by token")
		again := prune(t, d, models.LogBounds{MaxRows: 160})
		assert.Equal(t, int64(140), again.Verified.Rows)
		prune(t, d, models.LogBounds{MaxRows: 3})
		assert.LessOrEqual(t, len(rows()), 3)
	})
}

// TestPrunersDoNotAddUp has several processes prune at once.
func TestPrunersDoNotAddUp(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		logs := []*store.Decisions{openLog(t, url, nil), openLog(t, url, nil), openLog(t, url, nil)}
		var batch []models.LoggedDecision
		var refusals []models.CountedRefusals
		for i := range 2000 {
			batch = append(batch, madeAt(start.Add(time.Duration(i)*time.Second), about(fmt.Sprint("t", i%10), fmt.Sprint("u", i%5))))
			refusals = append(refusals, models.CountedRefusals{
				From: start.Add(time.Duration(i/10) * time.Minute), Span: time.Minute, Address: fmt.Sprint("192.0.2.", i%10), Reason: models.TokenUnknown, Calls: 1, Decisions: 2,
			})
		}
		require.NoError(t, logs[0].Add(t.Context(), batch))
		require.NoError(t, logs[0].AddCounts(t.Context(), models.DecisionCounts{Refusals: refusals}))
		var group errgroup.Group
		for _, d := range logs {
			group.Go(func() error {
				_, err := d.PruneDecisions(t.Context(), models.LogBounds{MaxRows: 500, RefusedSums: 100})
				return err
			})
		}
		require.NoError(t, group.Wait())
		n := 0
		require.NoError(t, logs[1].Each(t.Context(), store.DecisionFilter{}, func(models.LoggedDecision) error { n++; return nil }))
		assert.Equal(t, 500, n)
		var calls, decisions int64
		var rows int
		for page := (store.Page{Limit: 100}); ; {
			list, next, err := logs[2].Refusals(t.Context(), store.RefusalFilter{}, page)
			require.NoError(t, err)
			for _, r := range list {
				rows, calls, decisions = rows+1, calls+r.Calls, decisions+r.Decisions
			}
			if page.After = next; next == "" {
				break
			}
		}
		assert.Equal(t, []int64{2000, 4000}, []int64{calls, decisions}, "each is counted once")
		assert.LessOrEqual(t, rows, 110)
	})
}

func TestCountedRefusals(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		clock := storetest.NewClock()
		d := openLog(t, url, clock)
		hour := clock.Now().Truncate(time.Hour)
		sum := func(minute int, address string, code models.ReasonCode, calls int64) models.CountedRefusals {
			return models.CountedRefusals{
				From: hour.Add(time.Duration(minute) * time.Minute), Span: time.Minute, Address: address, Reason: code, Calls: calls, Decisions: 10 * calls, Kept: 1,
			}
		}
		add := func(sums ...models.CountedRefusals) {
			t.Helper()
			require.NoError(t, d.AddCounts(t.Context(), models.DecisionCounts{Refusals: sums}))
		}
		list := func(f store.RefusalFilter) (found []models.CountedRefusals) {
			t.Helper()
			for page := (store.Page{Limit: 2}); ; {
				part, next, err := d.Refusals(t.Context(), f, page)
				require.NoError(t, err)
				found = append(found, part...)
				if page.After = next; next == "" {
					return found
				}
			}
		}
		a, b := "192.0.2.1", "2001:db8::/64"
		add(sum(0, a, models.TokenMissing, 1), sum(0, b, models.TokenMissing, 2), sum(1, a, models.TokenUnknown, 3), sum(1, a, models.TokenMissing, 4))
		add(sum(1, a, models.TokenUnknown, 5), sum(2, "", models.Unavailable, 6))
		twice := sum(1, a, models.TokenUnknown, 8)
		twice.Kept = 2
		all := []models.CountedRefusals{sum(2, "", models.Unavailable, 6), sum(1, a, models.TokenMissing, 4), twice, sum(0, a, models.TokenMissing, 1), sum(0, b, models.TokenMissing, 2)}
		for name, c := range map[string]struct {
			filter store.RefusalFilter
			want   []models.CountedRefusals
		}{
			"all":         {want: all},
			"address":     {filter: store.RefusalFilter{Address: b}, want: all[4:]},
			"reason":      {filter: store.RefusalFilter{Reason: models.TokenUnknown}, want: all[2:3]},
			"since":       {filter: store.RefusalFilter{Since: hour.Add(time.Minute + time.Second)}, want: all[:3]},
			"until":       {filter: store.RefusalFilter{Until: hour.Add(time.Minute)}, want: all[3:]},
			"unstorable":  {filter: store.RefusalFilter{Address: "\x00"}},
			"none of one": {filter: store.RefusalFilter{Address: "198.51.100.1"}},
		} {
			assert.Equal(t, c.want, list(c.filter), name)
		}
		_, _, err := d.Refusals(t.Context(), store.RefusalFilter{}, store.Page{After: "x"})
		assert.Equal(t, models.CodeInvalid, models.CodeOf(err))

		prune(t, d, models.LogBounds{RefusedSums: 3})
		assert.Equal(t, all[:3], list(store.RefusalFilter{})[:3], "the latest stay by the minute")
		folded := list(store.RefusalFilter{})[3:]
		assert.Equal(t, []models.CountedRefusals{{From: hour, Span: time.Hour, Reason: models.TokenMissing, Calls: 3, Decisions: 30, Kept: 2}}, folded)
		prune(t, d, models.LogBounds{RefusedSums: 1})
		assert.Len(t, list(store.RefusalFilter{}), 3, "one, and the hour's two reasons")
		prune(t, d, models.LogBounds{Before: hour.Add(time.Hour)})
		assert.Empty(t, list(store.RefusalFilter{}))
	})
}

func TestWhatIsKnownOfADecisionThatIsNotThere(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		clock := storetest.NewClock()
		d := openLog(t, url, clock)
		missing := func(id string) models.MissingDecision {
			t.Helper()
			m, err := d.Missing(t.Context(), id)
			require.NoError(t, err)
			assert.NotEmpty(t, m.Message())
			return m
		}
		begin := clock.Now()
		clock.Advance(time.Minute)
		assert.Equal(t, models.MissingBefore, missing(models.NewDecisionID(begin)).Kind, "there is nothing yet")

		first := clock.Now()
		require.NoError(t, d.Add(t.Context(), []models.LoggedDecision{madeAt(first), madeAt(first.Add(time.Hour)), madeAt(first.Add(2 * time.Hour))}))
		key, err := d.HashKey(t.Context())
		require.NoError(t, err)
		require.NoError(t, d.AddCounts(t.Context(), models.DecisionCounts{
			Days:     []models.LoggedDay{{Day: models.DayOf(first), Recorded: 3, Dropped: 7}},
			Refusals: []models.CountedRefusals{{From: first.Truncate(time.Minute), Span: time.Minute, Address: "192.0.2.1", Reason: models.TokenMissing, Calls: 4, Decisions: 400, Kept: 3}},
		}))
		clock.Advance(3 * time.Hour)

		counted := models.NewCountedIDs(key).New(first)
		m := missing(counted)
		assert.Equal(t, models.MissingCounted, m.Kind)
		assert.Contains(t, m.Message(), "counted, not kept")
		require.Len(t, m.Refusals, 1)
		assert.Equal(t, int64(400), m.Refusals[0].Decisions)
		assert.Equal(t, models.MissingCounted, missing(models.NewCountedIDs(key).New(begin.AddDate(-1, 0, 0))).Kind, "however old")
		assert.NotEqual(t, models.MissingCounted, missing(models.NewCountedIDs([]byte("another log's")).New(first)).Kind)

		assert.Equal(t, models.MissingNoID, missing("nothing").Kind)
		assert.Equal(t, models.MissingNoID, missing("").Kind)
		assert.Equal(t, models.MissingNoID, missing("\x00").Kind)
		assert.Equal(t, models.MissingFuture, missing(models.NewDecisionID(clock.Now())).Kind)
		assert.Equal(t, models.MissingFuture, missing(models.NewDecisionID(clock.Now().Add(time.Hour))).Kind)
		assert.Equal(t, models.MissingBefore, missing(models.NewDecisionID(models.DayOf(first).Add(-time.Hour))).Kind)
		m = missing(models.NewDecisionID(first.Add(time.Minute)))
		assert.Equal(t, []any{models.MissingUnknown, int64(7)}, []any{m.Kind, m.Lost})
		prune(t, d, models.LogBounds{Before: first.Add(30 * time.Minute)})
		assert.Equal(t, models.MissingPruned, missing(models.NewDecisionID(first.Add(time.Minute))).Kind)
		assert.Equal(t, models.MissingUnknown, missing(models.NewDecisionID(first.Add(90*time.Minute))).Kind)
		prune(t, d, models.LogBounds{MaxRows: 1})
		assert.Equal(t, models.MissingPruned, missing(models.NewDecisionID(first.Add(90*time.Minute))).Kind)
	})
}
