//go:build !race

package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
)

// sharing is a policy of testdata/sharing.yaml.
type sharing struct {
	Name, Rules, Repeat, Called, Packages, Decision string
	Files                                           map[string]string
	Answer                                          string
}

func (c sharing) policy() map[string]string {
	files := map[string]string{}
	maps.Copy(files, c.Files)
	var text strings.Builder
	text.WriteString("package patrol.authz\n\n")
	deny := `{"allow": false, "reasons": [{"code": "no", "message": "No."}]}`
	if c.Decision != "" {
		fmt.Fprintf(&text, "decision := %s if not input.user\nelse := %s\n", deny, c.Decision)
	} else {
		fmt.Fprintf(&text, "decision := %s if not input.user\nelse := %s if called\nelse := %[1]s\n\ncalled if {\n%[3]s\n}\n\n", deny, strings.Replace(deny, `"no"`, `"called"`, 1), c.Called)
	}
	text.WriteString(c.Rules + "\n")
	for n := 1; n <= 40; n++ {
		number := strings.NewReplacer("{n}", strconv.Itoa(n), "{m}", strconv.Itoa(n-1))
		if strings.Contains(c.Repeat, "{n}") {
			text.WriteString(number.Replace(c.Repeat) + "\n")
		}
		if c.Packages != "" {
			files[fmt.Sprintf("p%d.rego", n)] = number.Replace(c.Packages)
		}
	}
	files["authz/authz.rego"] = text.String()
	return files
}

// TestValuesThatShareParts holds that no policy makes an evaluation go on beyond its time, or
// take much memory, by values whose parts are shared: when it is loaded, asked, by either
// evaluator, explained, and tested.
func TestValuesThatShareParts(t *testing.T) {
	content, err := os.ReadFile("testdata/sharing.yaml")
	require.NoError(t, err)
	var cases []sharing
	require.NoError(t, yaml.UnmarshalStrict(content, &cases))
	require.GreaterOrEqual(t, len(cases), 15)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) { sharedParts(t, c) })
	}
}

func sharedParts(t *testing.T, c sharing) {
	const timeout, slack, memory = 250 * time.Millisecond, 50 * time.Millisecond, 64 << 20
	src := bundle(t, c.policy())
	var s *engine.Snapshot
	var err error
	ends(t, 10*time.Second, memory, func() { s, err = engine.Load(context.Background(), src, engine.WithTimeout(timeout)) })
	if c.Answer == "refused" {
		require.Error(t, err)
		assert.Regexp(t, `\.(rego|yaml|json):\d+`, err.Error())
		return
	}
	if c.Answer == "unreadable" {
		require.ErrorContains(t, err, "excessive aliasing")
		return
	}
	require.NoError(t, err)
	req := readModel
	req.Context = map[string]any{"deep": json.RawMessage(strings.Repeat("[", 5000) + strings.Repeat("]", 5000))}
	decide := func() {
		_, err := s.Decide(context.Background(), req, facts(), now)
		switch c.Answer {
		case "error":
			assert.Error(t, err)
		case "answer":
			assert.NoError(t, err)
		}
	}
	ends(t, timeout+slack, memory, decide)
	input, merr := json.Marshal(map[string]any{"request": map[string]any{"domain": "acme", "entity_type": "models", "entity": "llama3", "operation": "read"}, "user": map[string]any{"id": "u"}, "now": 1000})
	require.NoError(t, merr)
	ends(t, 80*timeout, memory, func() { _, _ = workbench.Explain(context.Background(), s, input) })
	hasten, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	_ = s.Hasten(hasten, 2)
	ends(t, timeout+slack, memory, decide)

	files := c.policy()
	files["authz/authz_test.rego"] = "package patrol.authz_test\n\ntest_it if data.patrol.authz.decision.allow with input as {\"user\": {\"id\": \"u\"}, \"now\": 1000}\n"
	ends(t, 20*time.Second, 5*memory, func() {
		_, _, _, err := workbench.RunTests(context.Background(), bundle(t, files), workbench.TestOptions{Run: "test_it", Timeout: timeout})
		assert.NoError(t, err)
	})
}

// ends runs something that must end in time, and not take much memory. A machine that is busy
// is no fault of it.
func ends(t *testing.T, most time.Duration, memory int64, do func()) {
	t.Helper()
	var took time.Duration
	var grew int64
	for range 10 {
		debug.FreeOSMemory()
		before, began := resident(t), time.Now()
		done := make(chan struct{})
		go func() {
			defer close(done)
			do()
		}()
		select {
		case <-done:
		case <-time.After(30 * time.Second):
			panic("it does not end") // and would not, whatever is waited for
		}
		if took, grew = time.Since(began), resident(t)-before; took < most && grew < memory {
			return
		}
	}
	assert.Less(t, took, most)
	assert.Less(t, grew, memory)
}
