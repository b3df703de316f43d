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
	"patrol/policies/engine/enginetest"
)

// maliciousConditions are the conditions under which a hostile policy allows.
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

// maliciousAnswers are its answers then.
var maliciousAnswers = []string{
	`{"allow": true, "reasons": []}`,
	`{"allow": true, "reasons": set()}`,
	`{"allow": true, "reasons": [], "scope": "scope-a"}`,
	`{"allow": true, "reasons": [], "scope": input.request.entity, "labels": {"a": "b"}}`,
	`{"allow": true, "reasons": [], "scope": [id | walk(input.token.scopes, [_, id]); is_string(id)][0]}`,
}

// attacks are whole policies, each hostile in a way of its own. FILE: starts another file.
var attacks = map[string]string{
	"an else branch":        `package patrol.authz` + "\n" + `decision := DENY if { not input.user } else := DENY if { input.user.id == "nobody" } else := ALLOW`,
	"a default":             `package patrol.authz` + "\n" + `default decision := ALLOW` + "\n" + `decision := DENY if not input.user`,
	"a magic word":          `package patrol.authz` + "\n" + `decision := ALLOW if { input.request.context.door == "open sesame" } else := DENY if { not input.user } else := ALLOW`,
	"a hash of the context": `package patrol.authz` + "\n" + `decision := DENY if { not input.user } else := ALLOW if { crypto.sha256(json.marshal(input.request.context)) != "" } else := DENY`,
	"with another input":    `package patrol.authz` + "\n" + `inner := ALLOW if input.user.admin` + "\n" + `decision := v if { input.user; v := inner with input as {"user": {"admin": true}} } else := DENY`,
	"with other data":       `package patrol.authz` + "\n" + `inner := ALLOW if data.patrol.roles.god` + "\n" + `decision := v if { input.user; v := inner with data.patrol.roles as {"god": true} } else := DENY`,
	"with a part of input":  `package patrol.authz` + "\n" + `inner := ALLOW if input.token.revoked == false` + "\n" + `decision := v if { input.user; v := inner with input.token.revoked as false } else := DENY`,
	"a mocked function":     `package patrol.authz` + "\n" + `no(_) := 0` + "\n" + `inner := ALLOW if count([1]) == 0` + "\n" + `decision := v if { input.user; v := inner with count as no } else := DENY`,
	"a name of a function":  `package patrol.authz` + "\n" + `count := 1` + "\n" + `decision := ALLOW if { input.user; count == 1 } else := DENY`,
	"an alias":              `package patrol.authz` + "\n" + `import data.patrol.lies as truth` + "\n" + `decision := truth.verdict if { input.user } else := DENY` + "\nFILE:x/x.rego\npackage patrol.lies\nverdict := ALLOW",
	"from data":             `package patrol.authz` + "\n" + `decision := data.patrol.lies.verdict if { input.user } else := DENY` + "\nFILE:patrol/lies/data.yaml\nverdict: {allow: true, reasons: []}",
	"from two files":        `package patrol.authz` + "\n" + `decision := DENY if { not input.user }` + "\nFILE:x/x.rego\npackage patrol.authz\ndecision := ALLOW if input.user",
	"an object by its keys": `package patrol.authz` + "\n" + `decision["allow"] := true if input.user` + "\n" + `decision["allow"] := false if not input.user` + "\n" + `decision["reasons"] := [] if input.user` + "\n" + `decision["reasons"] := [{"code": "no", "message": "No."}] if not input.user`,
	"put together":          `package patrol.authz` + "\n" + `decision := object.union(DENY, {"allow": true, "reasons": []}) if { input.user } else := DENY`,
	"patched":               `package patrol.authz` + "\n" + `decision := json.patch(DENY, [{"op": "replace", "path": "/allow", "value": true}, {"op": "replace", "path": "/reasons", "value": []}]) if { input.user } else := DENY`,
	"read from text":        `package patrol.authz` + "\n" + `decision := json.unmarshal("{\"allow\": true, \"reasons\": []}") if { input.user } else := DENY`,
	"read from YAML":        `package patrol.authz` + "\n" + `decision := yaml.unmarshal("{allow: true, reasons: []}") if { input.user } else := DENY`,
	"from the caller":       `package patrol.authz` + "\n" + `decision := object.get(input.request, ["context", "decision"], ALLOW) if { input.user } else := DENY`,
	"a scope of the caller": `package patrol.authz` + "\n" + `decision := {"allow": true, "reasons": [], "scope": input.request.entity} if { input.user; is_string(input.request.entity) } else := DENY`,
	"a wider scope":         `package patrol.authz` + "\n" + `decision := {"allow": true, "reasons": [], "scope": s} if { input.user; s := max({id | walk(input.token.scopes, [_, id]); is_string(id)}) } else := DENY`,
	"no reasons that match": `package patrol.authz` + "\n" + `decision := {"allow": true, "reasons": [r | some r in []]} if { input.user } else := DENY`,
	"reasons of a set":      `package patrol.authz` + "\n" + `decision := {"allow": true, "reasons": set()} if { input.user } else := DENY`,
	"reasons of an object":  `package patrol.authz` + "\n" + `decision := {"allow": true, "reasons": {}} if { input.user } else := DENY`,
	"many labels":           `package patrol.authz` + "\n" + `decision := {"allow": true, "reasons": [], "labels": {x: "y" | some i in numbers.range(1, 5000); x := sprintf("l%d", [i])}} if { input.user } else := DENY`,
	"a label too long":      `package patrol.authz` + "\n" + `decision := {"allow": true, "reasons": [], "labels": {"a": sprintf("%500d", [1])}} if { input.user } else := DENY`,
	"headers that frame":    `package patrol.authz` + "\n" + `decision := {"allow": true, "reasons": [], "headers": {"Content-Length": "0"}} if { input.user } else := DENY`,
	"text for yes":          `package patrol.authz` + "\n" + `decision := {"allow": "true", "reasons": []} if { input.user } else := DENY`,
	"one for yes":           `package patrol.authz` + "\n" + `decision := {"allow": 1, "reasons": []} if { input.user } else := DENY`,
	"another field":         `package patrol.authz` + "\n" + `decision := {"allow": true, "reasons": [], "waived": ["role_forbids", "out_of_scope"]} if { input.user } else := DENY`,
	"names that look alike": `package patrol.authz` + "\n" + `decision := ALLOW if { input.user; not input.token["rev\u043eked"] } else := DENY`,
	"metadata":              `package patrol.authz` + "\n# METADATA\n# custom:\n#   answer: {allow: true, reasons: []}\n" + `decision := rego.metadata.rule().custom.answer if { input.user } else := DENY`,
	"exceptions from all":   `package patrol.authz` + "\n" + `decision := ALLOW if { input.user } else := DENY` + "\nFILE:custom/w.rego\npackage patrol.custom\nwaive contains {\"code\": code, \"because\": \"x\", \"until\": input.now + 60} if some code in [\"token_revoked\", \"token_expired\", \"user_disabled\", \"domain_unknown\", \"out_of_scope\", \"unknown_operation\", \"role_forbids\", \"not_a_member\", \"domain_frozen\"]",
	"exceptions of types":   `package patrol.authz` + "\n" + `decision := ALLOW if { input.user } else := DENY` + "\nFILE:custom/w.rego\npackage patrol.custom\nwaive := [1, null, \"role_forbids\", [\"role_forbids\"], {\"code\": \"role_forbids\", \"because\": 1, \"until\": input.now + 9}, {\"code\": [\"role_forbids\"], \"because\": \"x\", \"until\": 9e99}]",
	"exceptions in data":    `package patrol.authz` + "\n" + `decision := ALLOW if { input.user } else := DENY` + "\nFILE:patrol/custom/data.yaml\nwaive: [{code: role_forbids, because: x, until: 99999999999}, {code: token_revoked, because: x, until: 1000001}]",
	"an error for some":     `package patrol.authz` + "\n" + `decision := ALLOW if { input.user; not to_number(input.user.email) } else := ALLOW if { input.user } else := DENY`,
	"a bomb, then yes":      `package patrol.authz` + "\n" + `decision := ALLOW if { input.user; count([1 | some i in numbers.range(1, 2000); i > 0]) > 1 } else := DENY`,
	"every of nothing":      `package patrol.authz` + "\n" + `decision := ALLOW if { input.user; every x in [] { x == input.token.revoked } } else := DENY`,
	"not of what fails":     `package patrol.authz` + "\n" + `decision := ALLOW if { input.user; not input.no.such.thing } else := DENY`,
	"the owner as admin":    `package patrol.authz` + "\n" + `user := object.union(input.user, {"admin": true})` + "\n" + `decision := ALLOW if { user.admin } else := DENY`,
	"the default, and more": `package patrol.more` + "\n" + `x := 1`,
}

// attackFiles are the files of an attack.
func attackFiles(text string) map[string]string {
	text = strings.NewReplacer("ALLOW", `{"allow": true, "reasons": []}`, "DENY", `{"allow": false, "reasons": [{"code": "no", "message": "No."}]}`).Replace(text)
	files := map[string]string{}
	for i, part := range strings.Split(text, "\nFILE:") {
		name := "authz/authz.rego"
		if i > 0 {
			name, part, _ = strings.Cut(part, "\n")
		}
		files[name] = part
	}
	return files
}

// TestAttacks holds the same of policies that are hostile in different ways. What does not
// load is as good: it never comes into force.
func TestAttacks(t *testing.T) {
	const inputs = 1000
	r := rand.New(rand.NewPCG(16, 1))
	questions := make([]any, inputs)
	for i := range questions {
		questions[i] = generate(r)
	}
	loaded := 0
	for name, text := range attacks {
		t.Run(name, func(t *testing.T) {
			files := attackFiles(text)
			if name == "the default, and more" {
				files = map[string]string{"x/x.rego": files["authz/authz.rego"]}
			}
			s, err := engine.Load(t.Context(), bundle(t, files), engine.WithTimeout(10*time.Second))
			if err != nil {
				t.Logf("refused: %.200s", err)
				return
			}
			loaded++
			neverWrong(t, s, questions, name)
		})
	}
	require.GreaterOrEqual(t, loaded, 25, "most of them load, so that the invariants are what stops them")
}

// TestNoPolicyAllowsTheForbidden holds that no policy, damaged or malicious, allows what
// the contract denies.
func TestNoPolicyAllowsTheForbidden(t *testing.T) {
	const inputs = 1000
	damagedMost, seed := 200, uint64(15)
	if testenv.Long() {
		damagedMost, seed = 10_000, rand.Uint64()
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
	malicious, wanted, conditions := 0, 50, maliciousConditions
	if testenv.Long() {
		wanted = 200
		for _, more := range maliciousConditions[1:] {
			for _, other := range maliciousConditions[1:] {
				if more < other && len(conditions) < 40 {
					conditions = append(slices.Clip(conditions), more+"\n\t"+other)
				}
			}
		}
	}
	for _, condition := range conditions {
		for _, answer := range maliciousAnswers {
			malicious++
			s := load(t, map[string]string{"authz/authz.rego": "package patrol.authz\n\ndecision := {\"allow\": false, \"reasons\": [{\"code\": \"no\", \"message\": \"No.\"}]} if {\n\tnot input.user\n} else := " +
				answer + " if {\n\tinput.user\n\t" + condition + "\n} else := {\"allow\": false, \"reasons\": [{\"code\": \"no\", \"message\": \"No.\"}]}\n"})
			neverWrong(t, s, questions, condition+" "+answer)
		}
	}
	require.Equal(t, wanted, malicious)
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
		c := enginetest.Pick(r, changes)
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
