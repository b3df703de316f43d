package models_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
)

func TestAdvise(t *testing.T) {
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	many := ""
	for i := range 9 {
		many += fmt.Sprintf("s0 acme:models:m%d:read\n", i)
	}
	for _, c := range []struct {
		name, scopes, used string
		incomplete         bool
		max                int
		want               string // what is needed
		keep               string // by scope: k keep, r remove, n narrow
	}{
		{name: "not used at all", scopes: "acme:models:*:read acme:models:x:execute", keep: "rr"},
		{name: "used as it is", scopes: "acme:models:x:read", used: "s0 acme:models:x:read", want: "acme:models:x:read", keep: "k"},
		{name: "one of two", scopes: "acme:models:x:read acme:models:x:execute", used: "s1 acme:models:x:execute", want: "acme:models:x:execute", keep: "rk"},
		{
			name: "any entity, few used", scopes: "acme:models:*:read", used: "s0 acme:models:x:read\ns0 acme:models:y:read",
			want: "acme:models:x:read acme:models:y:read", keep: "n",
		},
		{name: "the collection", scopes: "acme:models:*:read", used: "s0 acme:models:*:read\ns0 acme:models:x:read", want: "acme:models:*:read", keep: "k"},
		{
			name: "any domain", scopes: "*:models:*:read", used: "s0 acme:models:*:read\ns0 acme:models:x:read\ns0 beta:models:y:read",
			want: "acme:models:*:read beta:models:y:read", keep: "n",
		},
		{name: "too much to name", scopes: "acme:models:*:read", used: many, want: "acme:models:*:read", keep: "k"},
		{
			name: "not all is known", scopes: "acme:models:*:read acme:models:x:read", used: "s0 acme:models:y:read", incomplete: true,
			want: "acme:models:*:read", keep: "kr",
		},
		{
			name: "not all is known of what a scope that is gone granted", scopes: "acme:models:*:read acme:models:x:read", used: "s9 acme:models:y:read",
			incomplete: true, want: "acme:models:*:read acme:models:x:read", keep: "kk",
		},
		{
			name: "what two become once", scopes: "acme:models:*:read *:models:*:read", used: "s0 acme:models:x:read\ns1 acme:models:x:read",
			want: "acme:models:x:read", keep: "nn",
		},
		{
			name: "more than a token may have", scopes: "acme:models:*:read", used: "s0 acme:models:x:read\ns0 acme:models:y:read", max: 1,
			want: "acme:models:*:read", keep: "k",
		},
		{name: "by a scope that is gone", scopes: "*:models:*:read acme:models:*:read acme:models:x:read", used: "s9 acme:models:x:read", want: "acme:models:x:read", keep: "rrk"},
		{name: "a use of something else under the same id", scopes: "acme:models:x:read", used: "s0 beta:models:x:read", keep: "r"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p models.PAT
			for i, text := range strings.Fields(c.scopes) {
				s, err := models.ParseScope(text)
				require.NoError(t, err)
				s.ID = fmt.Sprint("s", i)
				p.Scopes = append(p.Scopes, s)
			}
			var used []models.UsedScope
			for line := range strings.Lines(c.used) {
				id, text, _ := strings.Cut(strings.TrimSpace(line), " ")
				s, err := models.ParseScope(text)
				require.NoError(t, err)
				used = append(used, models.UsedScope{ScopeID: id, Domain: s.Domain, EntityType: s.EntityType, Entity: s.Entity, Operation: s.Operation, Count: 2, LastAt: at})
			}
			if c.max == 0 {
				c.max = 64
			}
			advice, needed := models.Advise(p, used, !c.incomplete, c.max)
			var texts []string
			for _, s := range needed {
				texts = append(texts, s.String())
				assert.True(t, p.Scopes[0].Includes(s) || len(p.Scopes) > 1)
			}
			assert.Equal(t, c.want, strings.Join(texts, " "))
			kinds := ""
			for _, a := range advice {
				switch {
				case a.Keep:
					kinds += "k"
				case len(a.Narrowed) == 0:
					kinds += "r"
				default:
					kinds += "n"
				}
			}
			assert.Equal(t, c.keep, kinds)
		})
	}
}
