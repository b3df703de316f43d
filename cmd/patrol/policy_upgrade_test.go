//go:build !race

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/bundles"
	"patrol/policies/engine"
)

// oldFolder is a folder as an earlier version's 'patrol policy init' wrote it.
func oldFolder(t *testing.T) string {
	t.Helper()
	all, err := earlierReleases()
	require.NoError(t, err)
	folder := t.TempDir()
	for name, content := range all[0] {
		at := filepath.Join(folder, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(at), 0o750))
		require.NoError(t, os.WriteFile(at, content, 0o600))
	}
	return folder
}

func rulesOf(t *testing.T, folder string, inForce bool) *engine.Report {
	t.Helper()
	src, err := bundles.Open(t.Context(), folder)
	require.NoError(t, err)
	r, err := engine.Check(t.Context(), src, engine.CheckOptions{InForce: inForce})
	require.NoError(t, err)
	return r
}

const ownDeny = `package patrol.custom

# METADATA
# title: Nobody uses the models of the laboratory
# custom:
#   code: laboratory
#   message: The laboratory's models are not for use.
deny contains rego.metadata.rule().custom if startswith(input.request.entity, "lab-")
`

// TestUpgrade holds what an upgrade does with a folder that an earlier version wrote, as
// it is and changed, and what the gate says before.
func TestUpgrade(t *testing.T) {
	folder := oldFolder(t)
	require.NoError(t, os.Mkdir(filepath.Join(folder, "custom"), 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "custom", "custom.rego"), []byte(ownDeny), 0o600))

	before := rulesOf(t, folder, false)
	assert.False(t, before.Passed)
	require.Len(t, before.Findings, 1)
	assert.Equal(t, "rule_unreachable", before.Findings[0].Code)
	assert.Contains(t, before.Findings[0].Message, "'patrol policy upgrade <folder>'")
	assert.True(t, rulesOf(t, folder, true).Passed, "what was in force comes into force again")

	u, err := planUpgrade(folder)
	require.NoError(t, err)
	assert.Contains(t, u.replaced, "authz/authz.rego")
	assert.Empty(t, u.conflicts)
	require.NoError(t, u.write(folder))
	again, err := planUpgrade(folder)
	require.NoError(t, err)
	assert.Empty(t, again.replaced)
	after := rulesOf(t, folder, false)
	assert.True(t, after.Passed, "%v", after.Findings)
}

// TestUpgradeOfWhatWasChanged holds that a changed file is left, and both changes shown.
func TestUpgradeOfWhatWasChanged(t *testing.T) {
	folder := oldFolder(t)
	file := filepath.Join(folder, "authz", "authz.rego")
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	changed := strings.Replace(string(content), "This access token was revoked.", "This token is no more.", 1)
	require.NoError(t, os.WriteFile(file, []byte(changed), 0o600))
	require.NoError(t, os.Remove(filepath.Join(folder, ".gitlab-ci.yml")))
	u, err := planUpgrade(folder)
	require.NoError(t, err)
	require.Len(t, u.conflicts, 1)
	assert.Equal(t, []string{".gitlab-ci.yml"}, u.gone)
	var out bytes.Buffer
	require.NoError(t, u.tell(output{w: &out}))
	assert.Contains(t, out.String(), "+#   message: This token is no more.")
	assert.Contains(t, out.String(), "+forbidden contains reason if some reason in data.patrol.custom.deny")
	require.NoError(t, u.write(folder))
	left, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, changed, string(left))
}
