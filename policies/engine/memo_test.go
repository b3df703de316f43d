//go:build !race

package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/stretchr/testify/require"
)

// TestMemoIsAsOPAs holds the memo against OPA's own through random calls, enough of
// them that it hands over in some runs and not in others.
func TestMemoIsAsOPAs(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for run := range 200 {
		var m memo
		m.init(nil)
		theirs := topdown.NewVirtualCache()
		names := 5 + r.IntN(150)
		ref := func() ast.Ref {
			ref := ast.MustParseRef(fmt.Sprintf("data.patrol.x%d", r.IntN(names)))
			if r.IntN(3) == 0 {
				ref = append(ref, ast.ArrayTerm(ast.IntNumberTerm(r.IntN(3))))
			}
			return ref
		}
		depth := 0
		for range 400 {
			switch n := r.IntN(20); {
			case n == 0:
				depth++
				m.Push()
				theirs.Push()
			case n == 1 && depth > 0:
				depth--
				m.Pop()
				theirs.Pop()
			case n < 10:
				// A rule is not put again with another outcome; OPA's would mix the two.
				ref := ref()
				if v, undefined := theirs.Get(ref); v != nil || undefined {
					continue
				}
				value := ast.IntNumberTerm(r.IntN(1000))
				if r.IntN(4) == 0 {
					value = nil
				}
				m.Put(ref, value)
				theirs.Put(ref, value)
			default:
				ref := ref()
				v1, u1 := m.Get(ref)
				v2, u2 := theirs.Get(ref)
				require.Equal(t, u2, u1, "run %d: %s", run, ref)
				require.Equal(t, v2, v1, "run %d: %s", run, ref)
			}
		}
		require.Equal(t, sortedKeys(theirs.Keys()), sortedKeys(m.Keys()), "run %d", run)
	}
}

func sortedKeys(refs []ast.Ref) []string {
	texts := make([]string, 0, len(refs))
	for _, ref := range refs {
		texts = append(texts, ref.String())
	}
	slices.Sort(texts)
	return texts
}

func TestMemoConstants(t *testing.T) {
	ref, other := ast.MustParseRef("data.patrol.c"), ast.MustParseRef("data.patrol.d")
	one, two := ast.IntNumberTerm(1), ast.IntNumberTerm(2)
	get := func(m *memo) *ast.Term {
		v, undefined := m.Get(ref)
		require.False(t, undefined)
		return v
	}
	var m memo
	m.init([]constant{{ref: ref, value: one}})
	require.Equal(t, one, get(&m))
	m.Push()
	require.Nil(t, get(&m), "under `with` a rule may be another")
	m.Put(ref, two)
	require.Equal(t, two, get(&m))
	m.Pop()
	require.Equal(t, one, get(&m))
	for i := range 2 * memoMost {
		m.Put(append(other.Copy(), ast.IntNumberTerm(i)), two)
	}
	require.NotNil(t, m.many)
	require.Equal(t, one, get(&m), "after handing over, too")
}
