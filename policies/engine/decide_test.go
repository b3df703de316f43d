package engine_test

import (
	"context"
	"encoding/json"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/policies/engine"
)

func TestInput(t *testing.T) {
	req := readModel
	req.Context = map[string]any{"ip": "192.0.2.1", "list": []any{true, nil, 1.5, json.Number("7")}, "n": 3}
	got, err := engine.InputOf(req, facts(), now)
	require.NoError(t, err)
	text, err := json.Marshal(got)
	require.NoError(t, err)
	assert.JSONEq(t, `{
		"request": {"domain": "acme", "entity_type": "models", "entity": "llama3", "operation": "read",
			"context": {"ip": "192.0.2.1", "list": [true, null, 1.5, 7], "n": 3}},
		"token": {"id": "aaaaaaaaaaaaaaaa", "name": "ci", "revoked": false, "created_at": 1790496400, "expires_at": 1790503600,
			"scopes": {"acme": {"models": {"read": {"*": "scope-1"}, "execute": {"phi": "scope-2"}}}}},
		"user": {"id": "u1", "email": "ann@example.com", "admin": false, "disabled": false},
		"domain": {"id": "acme", "status": "enabled"},
		"membership": {"role": "member"},
		"now": 1790500000}`, string(text))

	got, err = engine.InputOf(readModel, engine.Facts{}, now.Add(time.Second))
	require.NoError(t, err)
	text, err = json.Marshal(got)
	require.NoError(t, err)
	assert.JSONEq(t, `{"request": {"domain": "acme", "entity_type": "models", "entity": "llama3", "operation": "read", "context": {}},
		"now": 1790500001}`, string(text), "absent facts are absent, not null")
}

// TestDecide tries the typed API; the table of reasons is tested in Rego, and
// against the model.
func TestDecide(t *testing.T) {
	s := load(t, nil)
	revoked := pat
	revoked.RevokedAt = &now
	for name, c := range map[string]struct {
		change func(req *models.Request, f *engine.Facts)
		want   []models.ReasonCode
		scope  string
	}{
		"allowed":        {func(*models.Request, *engine.Facts) {}, nil, "scope-1"},
		"another model":  {func(r *models.Request, _ *engine.Facts) { r.Operation, r.Entity = "execute", "phi" }, nil, "scope-2"},
		"out of scope":   {func(r *models.Request, _ *engine.Facts) { r.Operation = "execute" }, []models.ReasonCode{models.OutOfScope}, ""},
		"revoked":        {func(_ *models.Request, f *engine.Facts) { f.Token = engine.TokenValue(revoked) }, []models.ReasonCode{models.TokenRevoked}, ""},
		"no facts":       {func(_ *models.Request, f *engine.Facts) { *f = engine.Facts{} }, []models.ReasonCode{models.TokenExpired, models.TokenRevoked, models.UserDisabled}, ""},
		"frozen, no one": {func(_ *models.Request, f *engine.Facts) { f.Domain, f.Membership = in(models.DomainIsFrozen), nil }, []models.ReasonCode{models.DomainFrozen, models.NotAMember}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			req, f := readModel, facts()
			c.change(&req, &f)
			d, err := s.Decide(t.Context(), req, f, now)
			require.NoError(t, err)
			assert.Equal(t, len(c.want) == 0, d.Allowed)
			if c.want != nil {
				assert.Equal(t, c.want, codes(d))
			}
			assert.Equal(t, c.scope, d.ScopeID)
			assert.Equal(t, s.Revision(), d.Revision)
		})
	}
}

func TestDecideRefusesRequests(t *testing.T) {
	s := load(t, nil)
	deep := any("end")
	for range 40 {
		deep = []any{deep}
	}
	for name, c := range map[string]struct {
		change func(*models.Request)
		want   string
	}{
		"no domain":              {func(r *models.Request) { r.Domain = "" }, "domain: is required"},
		"a blank in the entity":  {func(r *models.Request) { r.Entity = "a b" }, "entity: must be"},
		"context nests too deep": {func(r *models.Request) { r.Context = map[string]any{"deep": deep} }, "deeper than 32 levels"},
		"not a number":           {func(r *models.Request) { r.Context = map[string]any{"n": math.NaN()} }, `"n": NaN is not a JSON number`},
		"infinite":               {func(r *models.Request) { r.Context = map[string]any{"n": math.Inf(-1)} }, "-Inf is not a JSON number"},
		"a number too large":     {func(r *models.Request) { r.Context = map[string]any{"n": []any{json.Number("1e999999999")}} }, `"n": [0]: "1e999999999" is not a number`},
		"a number too long":      {func(r *models.Request) { r.Context = map[string]any{"n": json.Number(strings.Repeat("1", 65))} }, "not a number that can be computed with"},
		"hexadecimal":            {func(r *models.Request) { r.Context = map[string]any{"n": json.Number("0x1")} }, "not a number that can be computed with"},
		"not JSON":               {func(r *models.Request) { r.Context = map[string]any{"t": time.Time{}} }, `"t": time.Time is not a JSON value`},
	} {
		t.Run(name, func(t *testing.T) {
			req := readModel
			c.change(&req)
			d, err := s.Decide(t.Context(), req, facts(), now)
			require.ErrorContains(t, err, c.want)
			assert.Equal(t, models.Decision{}, d)
		})
	}
}

// policy is a bundle whose decision is what rules say, once there is a user: to
// deny when nothing is known is what every policy must.
func policy(rules string) map[string]string {
	return map[string]string{"authz/authz.rego": `package patrol.authz

decision := {"allow": false, "reasons": [{"code": "nobody", "message": "Nobody asks."}]} if {
	not input.user
} else := verdict

` + rules}
}

func TestDecideReadsDecisions(t *testing.T) {
	for name, c := range map[string]struct {
		document string
		want     models.Decision
	}{
		"as little as can be": {`{"allow": true, "reasons": []}`, models.Decision{Allowed: true, ScopeID: "scope-1"}},
		"reasons as a set":    {`{"allow": false, "reasons": {{"code": "b", "message": "B."}, {"code": "a", "message": "A."}}}`, models.Decision{Reasons: []models.Reason{{Code: "a", Message: "A."}, {Code: "b", Message: "B."}}}},
		"reasons are sorted":  {`{"allow": false, "reasons": [{"code": "b", "message": "B."}, {"code": "a", "message": "A."}]}`, models.Decision{Reasons: []models.Reason{{Code: "a", Message: "A."}, {Code: "b", Message: "B."}}}},
		"headers":             {`{"allow": true, "reasons": [], "headers": {"X-Patrol-Tier": "gold", "x-guardrails-note": "a b"}}`, models.Decision{Allowed: true, ScopeID: "scope-1", Headers: map[string]string{"X-Patrol-Tier": "gold", "x-guardrails-note": "a b"}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := load(t, policy("verdict := "+c.document))
			d, err := s.Decide(t.Context(), readModel, facts(), now)
			require.NoError(t, err)
			c.want.Revision = s.Revision()
			assert.Equal(t, c.want, d)
		})
	}
}

// TestDecideFailsClosed holds that whatever is not a well-formed decision is an
// error, and nothing is allowed by it.
func TestDecideFailsClosed(t *testing.T) {
	const reason = `{"code": "no", "message": "No."}`
	for name, c := range map[string]struct{ rules, want string }{
		"undefined":             {`verdict := true if input.user.admin`, "undefined"},
		"true":                  {`verdict := true`, "it is boolean, not an object"},
		"null":                  {`verdict := null`, "it is null, not an object"},
		"an array":              {`verdict := [true]`, "it is array, not an object"},
		"no reasons":            {`verdict := {"allow": true}`, "must have allow and reasons"},
		"no allow":              {`verdict := {"reasons": []}`, "must have allow and reasons"},
		"allow is a string":     {`verdict := {"allow": "true", "reasons": []}`, "allow is not true or false"},
		"allow is a number":     {`verdict := {"allow": 1, "reasons": []}`, "allow is not true or false"},
		"allow is null":         {`verdict := {"allow": null, "reasons": []}`, "allow is not true or false"},
		"allow with reasons":    {`verdict := {"allow": true, "reasons": [` + reason + `]}`, "it allows and has reasons not to"},
		"deny without reasons":  {`verdict := {"allow": false, "reasons": []}`, "it denies without a reason"},
		"reasons is null":       {`verdict := {"allow": true, "reasons": null}`, "reasons is not an array"},
		"reasons is an object":  {`verdict := {"allow": true, "reasons": {}}`, "reasons is not an array"},
		"reasons is a string":   {`verdict := {"allow": false, "reasons": "no"}`, "reasons is not an array"},
		"a reason is a string":  {`verdict := {"allow": false, "reasons": ["no"]}`, "not an object of code and message"},
		"a reason says more":    {`verdict := {"allow": false, "reasons": [{"code": "no", "message": "No.", "x": 1}]}`, "not an object of code and message"},
		"a reason says less":    {`verdict := {"allow": false, "reasons": [{"code": "no"}]}`, "not an object of code and message"},
		"a reason is unnamed":   {`verdict := {"allow": false, "reasons": [{"code": "no", "text": "No."}]}`, "message is not a text"},
		"a code with blanks":    {`verdict := {"allow": false, "reasons": [{"code": "No way", "message": "No."}]}`, `code is "No way"`},
		"a code without end":    {`verdict := {"allow": false, "reasons": [{"code": concat("", ["x" | some _ in numbers.range(0, 64)]), "message": "No."}]}`, "1 to 64"},
		"a message of none":     {`verdict := {"allow": false, "reasons": [{"code": "no", "message": ""}]}`, "message is not a text"},
		"one of two is wrong":   {`verdict := {"allow": false, "reasons": [` + reason + `, 1]}`, "not an object of code and message"},
		"more fields":           {`verdict := {"allow": true, "reasons": [], "allowed": true}`, "other fields"},
		"scope is a number":     {`verdict := {"allow": true, "reasons": [], "scope": 1}`, "scope is not a text"},
		"scope is empty":        {`verdict := {"allow": true, "reasons": [], "scope": ""}`, "scope is not a text"},
		"deny with a scope":     {`verdict := {"allow": false, "reasons": [` + reason + `], "scope": "s"}`, "it denies, yet has scope or headers"},
		"deny with headers":     {`verdict := {"allow": false, "reasons": [` + reason + `], "headers": {}}`, "it denies, yet has scope or headers"},
		"headers is an array":   {`verdict := {"allow": true, "reasons": [], "headers": []}`, "headers is not an object"},
		"a header of two lines": {`verdict := {"allow": true, "reasons": [], "headers": {"X-Patrol-A": "b\r\nX-C: d"}}`, "not text on one line"},
		"a header of a number":  {`verdict := {"allow": true, "reasons": [], "headers": {"X-Patrol-A": 1}}`, "is not a text"},
		"a header's name":       {`verdict := {"allow": true, "reasons": [], "headers": {"X-Patrol- A": "b"}}`, "not a policy's to set"},
		"a header without name": {`verdict := {"allow": true, "reasons": [], "headers": {"": "b"}}`, "not a policy's to set"},
		"a header of others":    {`verdict := {"allow": true, "reasons": [], "headers": {"X-Tier": "gold"}}`, "neither X-Patrol-… nor X-Guardrails-…"},
		"who is calling":        {`verdict := {"allow": true, "reasons": [], "headers": {"X-Patrol-User": "root"}}`, "is set from the token"},
		"a header folded":       {`verdict := {"allow": true, "reasons": [], "headers": {"X_Patrol_Tier": "gold"}}`, "not a policy's to set"},
		"a header twice":        {`verdict := {"allow": true, "reasons": [], "headers": {"X-Patrol-A": "b", "x-patrol-a": "c"}}`, "there twice"},
		"a framing header":      {`verdict := {"allow": true, "reasons": [], "headers": {"Content-Length": "0"}}`, "not a policy's to set"},
		"two results":           {"verdict := 1 if input.user\n\nverdict := 2 if input.token", "eval_conflict_error"},
		"a built-in fails":      {`verdict := {"allow": true, "reasons": []} if not to_number(input.user.email) == 1`, "eval_builtin_error"},
		"division by zero":      {`verdict := {"allow": true, "reasons": []} if not 1 / (input.now - input.now) == 1`, "divide by zero"},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := load(t, policy(c.rules)).Decide(t.Context(), readModel, facts(), now)
			require.ErrorContains(t, err, c.want)
			assert.ErrorContains(t, err, "data.patrol.authz.decision")
			assert.Equal(t, models.Decision{}, d)
		})
	}
}

// endless takes minutes, in the evaluator and not in one built-in function.
const endless = `verdict := {"allow": true, "reasons": []} if {
	count([1 |
		some a in numbers.range(1, 3000)
		some b in numbers.range(1, 3000)
		some c in numbers.range(1, 3000)
		a * b * c == input.now
	]) == -1
}`

func TestDecideTimesOut(t *testing.T) {
	s := load(t, policy(endless), engine.WithTimeout(50*time.Millisecond))
	began := time.Now()
	_, err := s.Decide(t.Context(), readModel, facts(), now)
	require.ErrorIs(t, err, engine.ErrTimeout)
	assert.ErrorContains(t, err, "more than 50ms")
	assert.Less(t, time.Since(began), 5*time.Second)
}

// busy is a context that stands for a machine which is busy with something else for a while,
// when it is asked for its error: as an evaluation does each time it looks at the clock.
type busy struct {
	context.Context               //nolint:containedctx // it is one
	times           int           // how often it still is busy
	long            time.Duration // and for how long
	met             int
}

func (b *busy) Err() error {
	if b.times > 0 {
		b.times--
		b.met++
		<-time.After(b.long)
	}
	return nil
}

// TestDecideOnABusyMachine holds that time in which an evaluation did not run ends none, once,
// and that no evaluation goes on for ever.
func TestDecideOnABusyMachine(t *testing.T) {
	const limit = 200 * time.Millisecond
	for name, plans := range map[string]bool{"topdown": false, "plan": true} {
		t.Run(name, func(t *testing.T) {
			s := load(t, policy(`verdict := {"allow": true, "reasons": []} if {
	count([1 | some a in numbers.range(1, 3000); a != input.now]) == 3000
}`), engine.WithTimeout(limit))
			if plans {
				hasten(t, s)
			}
			once := &busy{Context: t.Context(), times: 1, long: 2 * limit}
			d, err := s.Decide(once, readModel, facts(), now)
			require.NoError(t, err)
			assert.True(t, d.Allowed)
			assert.Equal(t, 1, once.met)

			always := &busy{Context: t.Context(), times: 1000, long: 2 * limit}
			_, err = s.Decide(always, readModel, facts(), now)
			require.ErrorIs(t, err, engine.ErrTimeout)
			assert.LessOrEqual(t, always.met, 6, "it is begun twice at most")
		})
	}
}

func TestDecideEndsWithItsContext(t *testing.T) {
	s := load(t, policy(endless), engine.WithTimeout(time.Minute))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := s.Decide(ctx, readModel, facts(), now)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	_, err = s.Decide(ctx, readModel, facts(), now)
	require.ErrorIs(t, err, context.Canceled)
}

func TestDecideSurvivesPanics(t *testing.T) {
	s := load(t, nil)
	for range 3 {
		d, err := s.Broken().Decide(t.Context(), readModel, facts(), now)
		require.ErrorContains(t, err, "panic")
		assert.False(t, d.Allowed)
	}
	d, err := s.Decide(t.Context(), readModel, facts(), now)
	require.NoError(t, err)
	assert.True(t, d.Allowed, "what a panic left behind harms nobody")
}

// TestFactsAreShared evaluates on the same prepared facts in many goroutines, for
// the race detector: with a policy that walks, sorts, compares and copies them.
func TestFactsAreShared(t *testing.T) {
	s := load(t, policy(`verdict := {"allow": true, "reasons": [], "scope": ids[0]} if {
	count(ids) == 2
	input.token == input.token
	object.union(input.token.scopes, {"x": input.user}).x == input.user
	json.patch(input.token, [{"op": "add", "path": "scopes/acme/models/read/new", "value": 1}]) != input.token
	count(object.keys(data.patrol.roles)) == 3
}

ids := sort([id | walk(input.token.scopes, [path, id]); count(path) == 4])`))
	d := load(t, nil)
	f := facts()
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 50 {
				for _, s := range []*engine.Snapshot{s, d} {
					got, err := s.Decide(t.Context(), readModel, f, now)
					if !assert.NoError(t, err) || !assert.True(t, got.Allowed) {
						return
					}
				}
			}
		})
	}
	group.Wait()
}
