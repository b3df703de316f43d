//go:build !race

package engine_test

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
	"patrol/models"
	"patrol/policies"
	"patrol/policies/engine"
)

// maliciousConditions are when a policy of somebody hostile allows.
var maliciousConditions = []string{
	"true",
	`input.token.id == "t"`,
	`input.user.id == "u"`,
	`input.now > 990`,
	`input.request.context == {}`,
	"not input.membership",
	"not input.domain",
	"input.token.revoked",
	"input.user.disabled",
	"is_object(input.token)",
}

// maliciousAnswers are what it answers then.
var maliciousAnswers = []string{
	`{"allow": true, "reasons": []}`,
	`{"allow": true, "reasons": set()}`,
	`{"allow": true, "reasons": [], "scope": "scope-a"}`,
	`{"allow": true, "reasons": [], "scope": input.request.entity, "labels": {"a": "b"}}`,
	`{"allow": true, "reasons": [], "scope": [id | walk(input.token.scopes, [_, id]); is_string(id)][0]}`,
}

// TestNoPolicyAllowsTheForbidden holds that no policy, damaged or malicious, allows what
// the contract denies.
func TestNoPolicyAllowsTheForbidden(t *testing.T) {
	damagedMost, inputs, seed := 200, 1000, uint64(15)
	if testenv.Long() {
		inputs, seed = 10_000, rand.Uint64()
	}
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	questions := make([]any, inputs)
	for i := range questions {
		questions[i] = generate(r)
		if r.IntN(3) == 0 {
			limit(r, questions[i])
		}
	}
	content, err := policies.FS.ReadFile("authz/authz.rego")
	require.NoError(t, err)
	malicious := 0
	for _, condition := range maliciousConditions {
		for _, answer := range maliciousAnswers {
			malicious++
			s := load(t, map[string]string{"authz/authz.rego": "package patrol.authz\n\ndecision := {\"allow\": false, \"reasons\": [{\"code\": \"no\", \"message\": \"No.\"}]} if {\n\tnot input.user\n} else := " +
				answer + " if {\n\tinput.user\n\t" + condition + "\n} else := {\"allow\": false, \"reasons\": [{\"code\": \"no\", \"message\": \"No.\"}]}\n"})
			neverWrong(t, s, questions, condition+" "+answer)
		}
	}
	require.Equal(t, 50, malicious)
	damagedOnes := 0
	for tries := 0; damagedOnes < damagedMost && tries < 20*damagedMost; tries++ {
		text := damagedText(r, string(content))
		s, err := engine.Load(t.Context(), bundle(t, map[string]string{"authz/authz.rego": text}), engine.WithTimeout(10*time.Second))
		if err != nil {
			continue
		}
		damagedOnes++
		neverWrong(t, s, questions, text)
	}
	require.Equal(t, damagedMost, damagedOnes)
}

// damagedText breaks up to three places of a policy.
func damagedText(r *rand.Rand, text string) string {
	changes := [][2]string{
		{"not ", ""},
		{"== false", "== true"},
		{"== true", "!= null"},
		{"disabled", "enabled"},
		{"input.now <", "input.now >"},
		{" < ", " <= "},
		{"== set()", "!= set()"},
		{"revoked", "name"},
		{"is_number", "is_string"},
		{"is_string", "is_number"},
		{"!= null", "== null"},
		{"\"*\"", "\"x\""},
		{"input.membership.role", "input.user.id"},
		{"else := forbidden", "else := set()"},
		{"granting_scope", "token_unrevoked"},
		{"unauthenticated", "unknown"},
		{"admin == true", "admin == false"},
		{"allow\": false", "allow\": true"},
		{"in waived", "in {\"not_a_member\", \"role_forbids\"}"},
	}
	for range 1 + r.IntN(3) {
		lines := strings.Split(text, "\n")
		if r.IntN(3) == 0 {
			i := r.IntN(len(lines))
			text = strings.Join(slices.Delete(lines, i, i+1), "\n")
			continue
		}
		c := pick(r, changes)
		n := strings.Count(text, c[0])
		if n == 0 {
			continue
		}
		at, from := r.IntN(n), 0
		for range at {
			from += strings.Index(text[from:], c[0]) + len(c[0])
		}
		text = text[:from] + strings.Replace(text[from:], c[0], c[1], 1)
	}
	return text
}

// neverWrong holds what a policy allows against the model.
func neverWrong(t *testing.T, s *engine.Snapshot, questions []any, what string) {
	t.Helper()
	catalog := s.Catalog()
	for _, input := range questions {
		d, err := s.DecideRaw(t.Context(), input)
		if err != nil || !d.Allowed {
			continue
		}
		want, _ := judge(input, catalog.Roles, catalog)
		want = slices.DeleteFunc(want, func(code models.ReasonCode) bool {
			return slices.ContainsFunc(d.Waived, func(w models.Waiver) bool { return w.Code == code })
		})
		if len(want) > 0 {
			text, _ := json.Marshal(input)
			require.Fail(t, "a wrong allowance", "%v on %s by\n%s", want, text, what)
		}
	}
}
