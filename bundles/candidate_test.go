package bundles

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What the source holds can be looked at as long as it is not in force, whatever is
// wrong with it.
func TestTheCandidateCanBeLookedAt(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.tar.gz")
	replace(t, file, packedFiles(t, embeddedFiles(t, nil)))
	source, err := NewSource(Options{Source: file, Interval: 5 * time.Millisecond})
	require.NoError(t, err)
	d, ledger := begin(t, source, GateConfig{})
	assert.Nil(t, d.Candidate())
	for name, archive := range map[string][]byte{
		"refused": packedFiles(t, embeddedFiles(t, map[string]string{"x.rego": "package patrol.x\n\np :="})), "unreadable": []byte("no archive"),
	} {
		replace(t, file, archive)
		require.False(t, ledger.next(t).Result.Passed, name)
		assert.Equal(t, archive, d.Candidate(), name)
	}
	const own = `package patrol.custom

# METADATA
# title: Some model is gone
# custom:
#   code: gone
#   message: It is gone.
deny contains rego.metadata.rule().custom if input.request.entity == "gone"
`
	replace(t, file, packedFiles(t, embeddedFiles(t, map[string]string{"custom/own.rego": own})))
	require.True(t, ledger.next(t).Result.Passed)
	require.Eventually(t, func() bool { return d.Candidate() == nil }, 10*time.Second, 5*time.Millisecond, "it is in force")
}
