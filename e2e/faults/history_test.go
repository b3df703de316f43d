package faults_test

import (
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"
)

// act names what one call asks for.
type act string

const (
	create act = "create a token"
	revoke act = "revoke a token"
	member act = "set the role"
	domain act = "set the domain's status"
	read   act = "ask what a token may do"

	// An allowance says of each of three facts that it held.
	sawToken  act = "see that a token lives"
	sawRole   act = "see that the role permits"
	sawDomain act = "see that the domain is enabled"
)

// input is one call about one owner, who has one domain.
type input struct {
	act   act
	token int  // of create, revoke and read: its number in this history
	on    bool // of member and domain
	where string
}

// state holds the facts that decide about an owner's tokens.
type state struct {
	member, enabled bool
	live            uint64 // one bit for each token
}

const maxTokens = 64

// model maps each call to its change of the state and to the answers that the state permits.
var model = porcupine.Model{
	Init: func() any { return state{member: true, enabled: true} },
	Step: func(s, in, _ any) (bool, any) {
		now, call := s.(state), in.(input)
		switch call.act {
		case create:
			now.live |= 1 << call.token
		case revoke:
			now.live &^= 1 << call.token
		case member:
			now.member = call.on
		case domain:
			now.enabled = call.on
		case read: // which was denied
			return !now.member || !now.enabled || now.live&(1<<call.token) == 0, now
		case sawToken:
			return now.live&(1<<call.token) != 0, now
		case sawRole:
			return now.member, now
		case sawDomain:
			return now.enabled, now
		}
		return true, now
	},
	DescribeOperation: func(in, out any) string {
		call := in.(input)
		return fmt.Sprintf("%s %d %t at %s: %v", call.act, call.token, call.on, call.where, out)
	},
	DescribeState: func(s any) string { return fmt.Sprintf("%+v", s) },
}

// history collects the calls about one owner between two moments of rest.
type history struct {
	begin time.Time
	bound time.Duration // how old an answer may be

	mu          sync.Mutex
	operations  []porcupine.Operation
	unanswered  int // writes of which nobody knows whether they happened
	unavailable int // questions that were not answered
}

func (h *history) at(t time.Time) int64 { return int64(t.Sub(h.begin)) }

// wrote notes a write. One without an answer may happen at any later time, or never.
func (h *history) wrote(in input, from, to time.Time, acknowledged bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	end := h.at(to)
	if !acknowledged {
		h.unanswered++
		end = math.MaxInt64
	}
	h.operations = append(h.operations, porcupine.Operation{Input: in, Call: h.at(from), Output: acknowledged, Return: end})
}

// answered notes an answer. What a server may have from its cache holds as of any moment since
// the bound, and each fact as of a moment of its own: what it learns of another server's change it
// learns by and by. So an allowance counts as one look at each fact. A denial needs one fact
// alone, and is one look.
func (h *history) answered(in input, from, to time.Time, full, allowed bool) {
	if !full {
		from = from.Add(-h.bound)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	looks := []act{read}
	if allowed {
		looks = []act{sawToken, sawRole, sawDomain}
	}
	for _, look := range looks {
		one := in
		if one.act = look; look == sawRole || look == sawDomain {
			one.token = 0
		}
		h.operations = append(h.operations, porcupine.Operation{Input: one, Call: h.at(from), Output: allowed, Return: h.at(to)})
	}
}

func (h *history) refused() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unavailable++
}

// informative leaves out each answer that another one implies: an answer about the same token that
// says the same, and whose time lies within. Whatever order explains that one explains both. So
// the checker, whose work grows exponentially with the calls of one time, has little left to do
// where nothing went wrong.
func informative(operations []porcupine.Operation) (left []porcupine.Operation) {
	implied := func(i int) bool {
		op := operations[i]
		this := op.Input.(input)
		if this.act == create || this.act == revoke || this.act == member || this.act == domain {
			return false
		}
		for j, other := range operations {
			in := other.Input.(input)
			within := other.Call >= op.Call && other.Return <= op.Return
			equal := other.Call == op.Call && other.Return == op.Return
			if j != i && in.act == this.act && in.token == this.token && within && (!equal || j < i) {
				return true
			}
		}
		return false
	}
	for i, op := range operations {
		if !implied(i) {
			left = append(left, op)
		}
	}
	return left
}

// check fails unless the history can be explained.
func (h *history) check(t *testing.T, name string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	result, info := porcupine.CheckOperationsVerbose(model, informative(h.operations), time.Minute)
	if result == porcupine.Ok {
		return
	}
	longest := 0
	for _, partial := range info.PartialLinearizationsOperations()[0] {
		longest = max(longest, len(partial))
	}
	for _, op := range informative(h.operations) {
		t.Logf("%9.3f … %9.3f %s", float64(op.Call)/1e9, float64(op.Return)/1e9, model.DescribeOperation(op.Input, op.Output))
	}
	t.Errorf("%s: the checker says %q of %d operations; the longest part that it can explain has %d", name, result, len(h.operations), longest)
}

// The checker finds what it is there to find, and accepts what is permitted.
func TestTheCheckerBites(t *testing.T) {
	const bound = 2 * time.Second
	type call struct {
		in           input
		from, to     float64 // seconds
		full, answer bool    // answer: acknowledged, or allowed
	}
	made := call{input{act: create}, 1, 1.1, false, true}
	for name, c := range map[string]struct {
		calls []call
		want  porcupine.CheckResult
	}{
		"a token works once it is made":                     {[]call{made, {input{act: read}, 2, 2.1, true, true}}, porcupine.Ok},
		"a token that was made is lost":                     {[]call{made, {input{act: read}, 2, 2.1, true, false}}, porcupine.Illegal},
		"a cache has not seen a new token yet":              {[]call{made, {input{act: read}, 2, 2.1, false, false}}, porcupine.Ok},
		"a cache has not seen a new token for too long":     {[]call{made, {input{act: read}, 3.2, 3.3, false, false}}, porcupine.Illegal},
		"a revocation binds a full answer at once":          {[]call{made, {input{act: revoke}, 2, 2.1, false, true}, {input{act: read}, 2.2, 2.3, true, true}}, porcupine.Illegal},
		"an answer began before the revocation was done":    {[]call{made, {input{act: revoke}, 2, 2.2, false, true}, {input{act: read}, 2.1, 2.3, true, true}}, porcupine.Ok},
		"a cache has not seen a revocation yet":             {[]call{made, {input{act: revoke}, 2, 2.1, false, true}, {input{act: read}, 4, 4.1, false, true}}, porcupine.Ok},
		"a cache has not seen a revocation for too long":    {[]call{made, {input{act: revoke}, 2, 2.1, false, true}, {input{act: read}, 4.2, 4.3, false, true}}, porcupine.Illegal},
		"a revocation is undone":                            {[]call{made, {input{act: revoke}, 2, 2.1, false, true}, {input{act: read}, 3, 3.1, true, false}, {input{act: read}, 9, 9.1, false, true}}, porcupine.Illegal},
		"a revocation without an answer happened":           {[]call{made, {input{act: revoke}, 2, 2.1, false, false}, {input{act: read}, 3, 3.1, true, false}}, porcupine.Ok},
		"a revocation without an answer did not happen":     {[]call{made, {input{act: revoke}, 2, 2.1, false, false}, {input{act: read}, 3, 3.1, true, true}}, porcupine.Ok},
		"a membership taken away counts":                    {[]call{made, {input{act: member}, 2, 2.1, false, true}, {input{act: read}, 3, 3.1, true, true}}, porcupine.Illegal},
		"a membership given back counts":                    {[]call{made, {input{act: member}, 2, 2.1, false, true}, {input{act: member, on: true}, 3, 3.1, false, true}, {input{act: read}, 4, 4.1, true, true}}, porcupine.Ok},
		"facts of one answer are of different ages":         {[]call{{input{act: domain}, 0.5, 0.6, false, true}, made, {input{act: read}, 2, 2.1, false, true}}, porcupine.Ok},
		"one fact of an answer is too old":                  {[]call{{input{act: domain}, 0.5, 0.6, false, true}, made, {input{act: read}, 3, 3.1, false, true}}, porcupine.Illegal},
		"a disabled domain counts":                          {[]call{made, {input{act: domain}, 2, 2.1, false, true}, {input{act: read}, 3, 3.1, true, true}}, porcupine.Illegal},
		"two answers in the wrong order":                    {[]call{made, {input{act: member}, 2, 5, false, true}, {input{act: read}, 3, 3.1, true, false}, {input{act: read}, 4, 4.1, true, true}}, porcupine.Illegal},
		"another token of the same owner is another matter": {[]call{made, {input{act: create, token: 1}, 2, 2.1, false, true}, {input{act: revoke, token: 1}, 3, 3.1, false, true}, {input{act: read}, 4, 4.1, true, true}}, porcupine.Ok},
	} {
		t.Run(name, func(t *testing.T) {
			h := &history{begin: time.Unix(0, 0), bound: bound}
			at := func(seconds float64) time.Time { return h.begin.Add(time.Duration(seconds * float64(time.Second))) }
			for _, call := range c.calls {
				if call.in.act == read {
					h.answered(call.in, at(call.from), at(call.to), call.full, call.answer)
				} else {
					h.wrote(call.in, at(call.from), at(call.to), call.answer)
				}
			}
			for _, operations := range [][]porcupine.Operation{h.operations, informative(h.operations)} {
				require.Equal(t, c.want, porcupine.CheckOperationsTimeout(model, operations, time.Minute))
			}
		})
	}
}
