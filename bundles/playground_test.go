package bundles

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/bundles/sandbox"
	"patrol/internal/testenv"
	"patrol/policies/engine"
)

func newPlayground(t *testing.T, edit func(*PlaygroundConfig)) *Playground {
	t.Helper()
	cfg := PlaygroundConfig{
		Limits:  sandbox.Limits{Memory: 512 << 20, CPU: 30 * time.Second, Wall: 2 * time.Minute},
		Running: 2, Patience: time.Minute,
	}
	if edit != nil {
		edit(&cfg)
	}
	p, err := NewPlayground(cfg)
	require.NoError(t, err)
	return p
}

// tried is the policy in the binary with some files others.
func tried(t *testing.T, files map[string]string) engine.Source {
	t.Helper()
	edits := map[string][]byte{}
	for name, content := range files {
		edits[name] = []byte(content)
	}
	src, err := Edited(engine.Source{Name: "edited", Files: embeddedFiles(t, nil)}, edits)
	require.NoError(t, err)
	return src
}

// allowed is an input that the policy in the binary allows.
const allowed = `{
	"request": {"domain": "acme", "entity_type": "models", "entity": "llama3", "operation": "read", "context": {}},
	"token": {"id": "t", "name": "ci", "revoked": false, "created_at": 1790000000, "expires_at": 1792592000, "scopes": {"acme": {"models": {"read": {"*": "s1"}}}}},
	"user": {"id": "u", "email": "a@example.com", "admin": false, "disabled": false},
	"domain": {"id": "acme", "status": "enabled"}, "membership": {"role": "member"}, "now": 1790500000
}`

// custom is a module that denies when a condition holds.
func custom(condition string) map[string]string {
	return map[string]string{"custom/custom.rego": "package patrol.custom\n\n# METADATA\n# title: Mine\nreason := {\"code\": \"mine\", \"message\": \"Mine.\"} if {\n\t" + condition + "\n}\n"}
}

func TestATrialTellsAllThatWasAsked(t *testing.T) {
	p := newPlayground(t, nil)
	events := seededEvents(t, 100, 1)
	base := tried(t, nil)
	files := custom(`input.request.operation == "read"`)
	files["custom/custom_test.rego"] = "package patrol.custom_test\n\ntest_reading if not data.patrol.custom.reason with input as {\"request\": {\"operation\": \"read\"}}\n"
	got, err := p.Try(t.Context(), Trial{
		Source: tried(t, files), Input: []byte(allowed), Base: &base, Check: true,
		Events: func(_ context.Context, yield func([]byte) error) error {
			for _, event := range events {
				if err := yield(event); err != nil {
					return err
				}
			}
			return nil
		},
	})
	require.NoError(t, err)
	require.Empty(t, got.Findings)
	require.Empty(t, got.Exceeded)
	require.NotNil(t, got.Explanation)
	assert.False(t, got.Explanation.Allowed)
	require.Len(t, got.Explanation.Reasons, 1)
	assert.Equal(t, "mine", string(got.Explanation.Reasons[0].Code))
	ran := false
	for _, r := range got.Explanation.Rules {
		ran = ran || r.File == "custom/custom.rego" && r.Held && len(r.Lines) == 1 && r.Lines[0].Line == 6
	}
	assert.True(t, ran, "the rule of the edited file is among what ran")
	require.NotNil(t, got.Replay)
	assert.Equal(t, []int64{100, 70, 0}, []int64{got.Replay.Replayed, got.Replay.NewlyDenied, got.Replay.NewlyAllowed})
	require.NotNil(t, got.Check)
	assert.False(t, got.Check.Passed, "a test of its own does not expect that")
	require.NotNil(t, got.Check.Tests)
	assert.Positive(t, got.Check.Tests.Failed)

	got, err = p.Try(t.Context(), Trial{Source: base})
	require.NoError(t, err)
	assert.Equal(t, &TrialResult{Findings: []engine.Finding{}, Failed: []engine.Finding{}, Exceeded: map[TrialPart]string{}}, got, "nothing was asked")
}

// TestATrialIsKeptWithinBounds tries what is broken, and what would read or take what is
// not its own.
func TestATrialIsKeptWithinBounds(t *testing.T) {
	if !sandbox.Enforced {
		testenv.Missing(t, "rlimits", "this platform has no limits on processes")
	}
	t.Setenv("PATROL_TOKEN_KEYS", "k1:a-secret")
	p := newPlayground(t, func(c *PlaygroundConfig) {
		c.Limits = sandbox.Limits{Memory: 384 << 20, CPU: 2 * time.Second, Wall: time.Minute}
	})
	for name, c := range map[string]struct {
		files   map[string]string
		finding string // place and a part of the message
		failed  string
		exceeds string // if there is a finding: or this, whichever comes first
	}{
		"a typing error":    {files: map[string]string{"authz/mine.rego": "package patrol.mine\n\nx if {\n"}, finding: "authz/mine.rego:4"},
		"an unknown fact":   {files: map[string]string{"custom/custom.rego": "# METADATA\n# schemas:\n#   - input: schema.authz_input\npackage patrol.custom\n\nx if input.domian == 1\n"}, finding: "custom/custom.rego:6"},
		"two files at once": {files: map[string]string{"a/a.rego": "package patrol.a\n\nx := y\n", "b/b.rego": "package patrol.b\n\nx := z\n"}, finding: "b/b.rego:3"},
		"bad data":          {files: map[string]string{"patrol/roles/data.yaml": "viewer: [1"}, finding: "patrol/roles/data.yaml"},
		"the network":       {files: custom(`http.send({"method": "GET", "url": "http://127.0.0.1/"}).status_code == 200`), finding: "http.send"},
		"names":             {files: custom(`net.lookup_ip_addr("example.com")`), finding: "net.lookup_ip_addr"},
		"the environment":   {files: custom(`opa.runtime().env.PATROL_TOKEN_KEYS != ""`), finding: "opa.runtime"},
		"the clock":         {files: custom(`time.now_ns() > 5`), finding: "time.now_ns"},
		"a foreign root":    {files: map[string]string{"x/x.rego": "package system.authz\n\nallow := true\n"}, finding: "x/x.rego:1"},
		"capabilities":      {files: map[string]string{"capabilities.json": `{"builtins": [{"name": "http.send"}], "allow_net": ["example.com"]}`}, finding: "capabilities.json"},
		"no decision":       {files: map[string]string{"authz/authz.rego": "package patrol.authz\n\nx := 1\n", "authz/authz_test.rego": "package patrol.authz_test\n"}, finding: "decision"},
		"a conflict":        {files: custom(`{"a": x | x := [1, 2][_]}.a == 1`), failed: "custom/custom.rego:6"},
		"time":              {files: custom(`r := numbers.range(1, 3000); count([a | some a in r; some b in r; some c in r; a == -b; b == c]) == 1`), exceeds: "CPU|took too long"},
		"memory":            {files: custom(`z := sprintf("%01000d", [0]); y := replace(z, "0", z); count([x | some i in numbers.range(1, 9999); x := concat("", [y, format_int(i, 10)])]) == 1`), exceeds: "values that are too large|took too long"}, // the latter under the race detector
		"recursion":         {files: map[string]string{"custom/custom.rego": "package patrol.custom\n\nx if y\n\ny if x\n"}, finding: "custom/custom.rego:3"},
		"deep nesting":      {files: map[string]string{"custom/custom.rego": "package patrol.custom\n\nx := " + strings.Repeat("[", 200_000) + "\n"}, finding: "custom/custom.rego:3", exceeds: "MiB of memory"}, // its stack is larger under the race detector
	} {
		t.Run(name, func(t *testing.T) {
			got, err := p.Try(t.Context(), Trial{Source: tried(t, c.files), Input: []byte(allowed)})
			require.NoError(t, err)
			text := ""
			for _, f := range got.Findings {
				text += f.String() + "\n"
			}
			assert.NotContains(t, fmt.Sprint(got), "a-secret")
			switch {
			case c.finding != "" && c.exceeds != "" && text == "":
				assert.Regexp(t, c.exceeds, got.Exceeded[PartAnswer])
			case c.finding != "":
				assert.Contains(t, text, c.finding)
				assert.Nil(t, got.Explanation)
			case c.failed != "":
				require.Empty(t, text)
				require.NotEmpty(t, got.Failed, "%v", got)
				assert.Contains(t, got.Failed[0].String(), c.failed)
			default:
				require.Empty(t, text)
				for _, f := range got.Failed { // it may be evaluated for so long and no longer
					text += f.String()
				}
				assert.Regexp(t, c.exceeds, got.Exceeded[PartAnswer]+text)
			}
		})
	}
}

// TestTrialsWaitForAPlace holds one back by the events that it is to read.
func TestTrialsWaitForAPlace(t *testing.T) {
	p := newPlayground(t, func(c *PlaygroundConfig) { c.Running, c.Patience = 1, time.Millisecond })
	src := tried(t, nil)
	inside, finish := make(chan struct{}), make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		_, err := p.Try(t.Context(), Trial{Source: src, Events: func(ctx context.Context, _ func([]byte) error) error {
			close(inside)
			select {
			case <-finish:
			case <-ctx.Done():
			}
			return nil
		}})
		ended <- err
	}()
	<-inside
	_, err := p.Try(t.Context(), Trial{Source: src})
	require.ErrorIs(t, err, ErrPlaygroundFull)
	close(finish)
	require.NoError(t, <-ended)
	_, err = p.Try(t.Context(), Trial{Source: src})
	require.NoError(t, err, "the place is free again")

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = p.Try(gone, Trial{Source: src})
	require.ErrorIs(t, err, context.Canceled)
	_, err = p.Try(t.Context(), Trial{Source: src})
	require.NoError(t, err)
}

func TestTheTimeOfATrialIsOneForAllItsParts(t *testing.T) {
	p := newPlayground(t, func(c *PlaygroundConfig) { c.Limits.Wall = 5 * time.Second })
	got, err := p.Try(t.Context(), Trial{Source: tried(t, nil), Events: func(ctx context.Context, _ func([]byte) error) error {
		<-ctx.Done() // as a log that is never read to its end
		return ctx.Err()
	}, Check: true})
	require.NoError(t, err)
	assert.Contains(t, got.Exceeded[PartReplay], "longer than 5s")
	assert.Contains(t, got.Exceeded[PartCheck], "longer than 5s")
}

func TestEdited(t *testing.T) {
	src := engine.Source{Name: "x", Files: map[string][]byte{".manifest": []byte("{}"), "a/a.rego": []byte("package a")}}
	got, err := Edited(src, map[string][]byte{"a/a.rego": []byte("b"), "a/a_test.rego": []byte(""), "data.yaml": []byte("c")})
	require.NoError(t, err)
	assert.Equal(t, map[string][]byte{".manifest": []byte("{}"), "a/a.rego": []byte("b"), "a/a_test.rego": []byte(""), "data.yaml": []byte("c")}, got.Files)
	assert.Equal(t, "package a", string(src.Files["a/a.rego"]), "what was edited stays as it is")
	got, err = Edited(src, map[string][]byte{"a/a.rego": nil})
	require.NoError(t, err)
	assert.NotContains(t, got.Files, "a/a.rego")
	for _, name := range []string{"", ".", "..", "../x.rego", "/etc/x.rego", "a//b.rego", "a/../b.rego", "a\\b.rego", "a/b.rego/", "./a.rego", "x\x00.rego", "README.md", "policy.txt", strings.Repeat("a", 600) + ".rego"} {
		_, err := Edited(src, map[string][]byte{name: []byte("x")})
		var bad *EditError
		require.ErrorAs(t, err, &bad, "%q", name)
		assert.Equal(t, name, bad.File)
	}
	_, err = Edited(src, map[string][]byte{"not/there.rego": nil})
	require.ErrorContains(t, err, "is not in the bundle")
	_, err = Edited(src, map[string][]byte{"a.rego": make([]byte, maxFile+1)})
	require.ErrorContains(t, err, "larger than 8 MiB")
	many := map[string][]byte{}
	for i := range maxFiles {
		many[fmt.Sprint("m", i, ".rego")] = []byte("package a")
	}
	_, err = Edited(src, many)
	require.ErrorContains(t, err, "more than 5000 files")
}
