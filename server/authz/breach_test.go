package authz_test

import (
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/bundles"
	"patrol/models"
	"patrol/policies/engine"
	"patrol/server/authz"
)

// policyWith is the embedded policy with some files others.
func policyWith(t *testing.T, files map[string]string) *engine.Snapshot {
	t.Helper()
	src, err := bundles.Open(t.Context(), "")
	require.NoError(t, err)
	src.Files = maps.Clone(src.Files)
	for name, content := range files {
		src.Files[name] = []byte(content)
	}
	s, err := engine.Load(t.Context(), src, engine.WithTimeout(time.Minute))
	require.NoError(t, err)
	return s
}

const deaf = `package patrol.authz

decision := {"allow": false, "reasons": [{"code": "nobody", "message": "Nobody asks."}]} if {
	not input.user
} else := {"allow": true, "reasons": []}
`

// TestBreach holds that what a policy allows and no policy may allow is refused, counted
// and told with its rule, and that an allowance in spite of a reason is told.
func TestBreach(t *testing.T) {
	m := &countingMetrics{decided: map[string]int{}, cache: map[string]int{}}
	b := newBed(t, func(c *authz.Config) { c.Metrics = m })
	b.policy.Swap(policyWith(t, map[string]string{"authz/authz.rego": deaf}))
	assert.True(t, b.ask(b.token).Allowed)
	b.world.set(func() { b.world.domains["acme"] = models.Domain{ID: "acme", Status: models.DomainIsFrozen} })
	d := b.ask(b.token)
	assert.Equal(t, []models.ReasonCode{models.PolicyError}, codes(d))
	assert.Equal(t, 1, m.decided["breached domain_frozen"])
	assert.Contains(t, b.log.String(), "the policy allows what no policy may allow")
	assert.Contains(t, b.log.String(), "breach=[domain_frozen] rule=data.patrol.authz.decision file=authz/authz.rego line=3")

	b.policy.Swap(policyWith(t, map[string]string{
		"authz/authz.rego":  deaf,
		"custom/waive.rego": "package patrol.custom\n\nwaive contains {\"code\": \"domain_frozen\", \"because\": \"INC-1\", \"until\": 1778100000}\n",
	}))
	d = b.ask(b.token)
	assert.True(t, d.Allowed)
	assert.Equal(t, []models.Waiver{{Code: models.DomainFrozen, Because: "INC-1", Until: 1778100000}}, d.Waived)
	assert.Equal(t, 1, m.decided["waived domain_frozen true"])
}
