package decisionlog

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// entryOf is a value of the queue under test.
type entryOf struct {
	n           int
	user, token string
	allowed     bool
	size        int64
}

// TestAFairQueueKeepsItsPromises compares the queue with a list that does the same
// slowly, as far as that is promised: the order, the bounds, and who loses something.
func TestAFairQueueKeepsItsPromises(t *testing.T) {
	const largest = 60
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Int64Range(10, 400).Draw(t, "limit")
		var list []entryOf
		held := func(user, token string) (n int64) {
			for _, e := range list {
				if e.user == user && (token == "" || e.token == token) {
					n += e.size
				}
			}
			return n
		}
		q := newFair(limit, func(e *entryOf, allowed bool) {
			at := slices.Index(list, *e)
			if at < 0 {
				t.Fatalf("%v is lost, and was not there", *e)
			}
			if e.allowed != allowed {
				t.Fatalf("%v is called allowed: %v", *e, allowed)
			}
			for _, later := range list[at+1:] {
				if later.user == e.user && later.token == e.token && later.allowed == e.allowed {
					t.Fatalf("%v goes before the newer %v", *e, later)
				}
			}
			if !e.allowed && slices.ContainsFunc(list, func(o entryOf) bool { return o.user == e.user && o.token == e.token && o.allowed }) {
				t.Fatalf("%v goes before an allowance of the same token", *e)
			}
			for _, other := range list {
				if held(other.user, "") > held(e.user, "")+largest || other.user == e.user && held(e.user, other.token) > held(e.user, e.token)+largest {
					t.Fatalf("%s loses something, and %s holds more", e.token, other.token)
				}
			}
			list = slices.Delete(list, at, at+1)
		})
		steps := rapid.IntRange(1, 300).Draw(t, "steps")
		for n := range steps {
			switch rapid.IntRange(0, 20).Draw(t, "step") {
			case 0, 1:
				bound := rapid.IntRange(1, 20).Draw(t, "most")
				got := q.take(bound, 1<<40, nil)
				want := list[:min(bound, len(list))]
				if !slices.Equal(got, want) {
					t.Fatalf("took %v, not %v", got, want)
				}
				list = slices.Clone(list[len(want):])
			case 2:
				var got []entryOf
				for _, s := range q.swap(nil) {
					if s.of != nil {
						got = append(got, s.value)
					}
				}
				if !slices.Equal(got, list) {
					t.Fatalf("all of it is %v, not %v", got, list)
				}
				list = nil
			case 3:
				q.compact()
			case 4:
				q.forget()
			default:
				e := entryOf{
					n: n, user: fmt.Sprint("u", rapid.IntRange(0, 3).Draw(t, "user")), allowed: rapid.Bool().Draw(t, "allowed"),
					size: rapid.Int64Range(1, largest).Draw(t, "size"),
				}
				e.token = e.user + fmt.Sprint("t", rapid.IntRange(0, 2).Draw(t, "token"))
				if q.put(e, e.user, e.token, e.allowed, e.size) {
					list = append(list, e)
				} else if e.size <= limit && slices.ContainsFunc(list, func(o entryOf) bool { return held(o.user, "") > held(e.user, "")+e.size }) {
					t.Fatalf("%v is refused, and %s has less than others", e, e.user)
				}
			}
			var bytes int64
			for _, e := range list {
				bytes += e.size
			}
			if q.bytes != bytes || q.live != len(list) || bytes > limit {
				t.Fatalf("%d bytes of %d values, not %d of %d, at most %d", q.bytes, q.live, bytes, len(list), limit)
			}
		}
	})
}

func TestABusyTokenDisplacesNothingOfOthers(t *testing.T) {
	lost := map[string]int{}
	q := newFair(1000, func(e *entryOf, _ bool) { lost[e.token]++ })
	put := func(user, token string, allowed bool) bool {
		return q.put(entryOf{user: user, token: token, allowed: allowed, size: 10}, user, token, allowed, 10)
	}
	for i := range 10 {
		require.True(t, put(fmt.Sprint("quiet", i), "one", true))
	}
	for range 100_000 {
		put("busy", "flood", false)
	}
	assert.Equal(t, map[string]int{}, lost, "it is refused itself")
	require.True(t, put("busy", "other", true), "the same user's other token has its part")
	require.True(t, put("late", "late", true), "so has somebody who comes late")
	assert.Equal(t, map[string]int{"flood": 2}, lost)
	assert.Equal(t, int64(1000), q.bytes)
	assert.LessOrEqual(t, len(q.slots), 10_000, "what goes leaves no gaps for long")
}

func TestManyTokensOfOneUserAreNoMoreThanOne(t *testing.T) {
	lost := map[string]int{}
	q := newFair(1000, func(e *entryOf, _ bool) { lost[e.user]++ })
	for i := range 40 {
		require.True(t, q.put(entryOf{user: "quiet", token: "t"}, "quiet", "t", true, 10), i)
	}
	for i := range 20_000 {
		token := fmt.Sprint(i)
		q.put(entryOf{user: "busy", token: token}, "busy", token, true, 10)
	}
	assert.Zero(t, lost["quiet"])
	assert.LessOrEqual(t, len(q.tokens), maxIdle+3*100, "what holds nothing is forgotten")
}
