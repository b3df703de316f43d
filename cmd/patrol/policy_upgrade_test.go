//go:build !race

package main

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/bundles"
	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
)

// oldFolder is a folder as an earlier version's 'patrol policy init' wrote it, the one before
// there were deny and waive.
func oldFolder(t *testing.T) string { return folderOf(t, 1) }

// folderOf is a folder as a version wrote it: what a later one has not changed is of the
// one before.
func folderOf(t *testing.T, release int) string {
	t.Helper()
	all, err := earlierReleases()
	require.NoError(t, err)
	require.Greater(t, len(all), release)
	files := map[string][]byte{}
	for _, of := range all[:release+1] {
		maps.Copy(files, of)
	}
	folder := t.TempDir()
	for name, content := range files {
		at := filepath.Join(folder, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(at), 0o750))
		require.NoError(t, os.WriteFile(at, content, 0o600))
	}
	return folder
}

func rulesOf(t *testing.T, folder string, inForce bool) *workbench.Report {
	t.Helper()
	src, err := bundles.Open(t.Context(), folder)
	require.NoError(t, err)
	r, err := workbench.Check(t.Context(), src, workbench.CheckOptions{InForce: inForce})
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

// TestUpgrade holds what an upgrade does with a folder that each earlier version wrote, and
// what the gate says before.
func TestUpgrade(t *testing.T) {
	all, err := earlierReleases()
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(all), 2)
	for release := range all {
		t.Run(strconv.Itoa(release), func(t *testing.T) {
			folder := folderOf(t, release)
			require.NoError(t, os.Mkdir(filepath.Join(folder, "custom"), 0o750))
			require.NoError(t, os.WriteFile(filepath.Join(folder, "custom", "custom.rego"), []byte(ownDeny), 0o600))
			if release <= 1 {
				before := rulesOf(t, folder, false)
				assert.False(t, before.Passed)
				require.NotEmpty(t, before.Findings)
				at := slices.IndexFunc(before.Findings, func(f engine.Finding) bool { return f.Code == "rule_unreachable" })
				require.GreaterOrEqual(t, at, 0, "%v", before.Findings)
				assert.Contains(t, before.Findings[at].Message, "'patrol policy upgrade <folder>'")
			}
			if release == 1 {
				assert.True(t, rulesOf(t, folder, true).Passed, "what was in force comes into force again")
			}
			unasked := func(r *workbench.Report) bool {
				return slices.ContainsFunc(r.Warnings, func(f engine.Finding) bool {
					return f.Code == "reason_unasked" && strings.Contains(f.Message, "ip_forbidden") && strings.Contains(f.Message, "'patrol policy upgrade <folder>'")
				})
			}
			assert.True(t, unasked(rulesOf(t, folder, true)), "no version had a reason for addresses")
			u, err := planUpgrade(t.Context(), folder)
			require.NoError(t, err)
			assert.Empty(t, u.conflicts)
			assert.Empty(t, u.merged)
			require.NoError(t, u.write(folder))
			again, err := planUpgrade(t.Context(), folder)
			require.NoError(t, err)
			assert.Empty(t, again.replaced)
			after := rulesOf(t, folder, false)
			assert.True(t, after.Passed, "%v", after.Findings)
			assert.False(t, unasked(after))
		})
	}
}

// TestUpgradeMerges holds that what people changed stays, beside what is new, where the two
// are not about the same lines.
func TestUpgradeMerges(t *testing.T) {
	for name, change := range map[string]func(string) string{
		"a message": func(s string) string {
			return strings.Replace(s, "This access token was revoked.", "This token is no more.", 1)
		},
		"a rule at the end": func(s string) string {
			return s + "\n# METADATA\n# title: Auditors may read\noperation_permitted if {\n\tinput.membership.role == \"viewer\"\n\tinput.request.operation == \"read\"\n}\n"
		},
		"a description": func(s string) string {
			return strings.Replace(s, "# title: The token is not expired\n", "# title: The token is not over\n", 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			folder := oldFolder(t)
			file := filepath.Join(folder, "authz", "authz.rego")
			content, err := os.ReadFile(file)
			require.NoError(t, err)
			changed := change(string(content))
			require.NotEqual(t, string(content), changed)
			require.NoError(t, os.WriteFile(file, []byte(changed), 0o600))
			require.NoError(t, os.Mkdir(filepath.Join(folder, "custom"), 0o750))
			require.NoError(t, os.WriteFile(filepath.Join(folder, "custom", "custom.rego"), []byte(ownDeny), 0o600))
			u, err := planUpgrade(t.Context(), folder)
			require.NoError(t, err)
			require.Empty(t, u.conflicts)
			require.Len(t, u.merged, 1)
			require.NoError(t, u.write(folder))
			merged, err := os.ReadFile(file)
			require.NoError(t, err)
			assert.Contains(t, string(merged), "data.patrol.custom.deny")
			assert.Contains(t, string(merged), "data.patrol.custom.waive")
			assert.Equal(t, change(string(u.now["authz/authz.rego"])), string(merged))
			for _, f := range rulesOf(t, folder, false).Findings {
				assert.NotEqual(t, "rule_unreachable", f.Code, "%v", f)
			}
			var out bytes.Buffer
			require.NoError(t, u.tell(output{w: &out}))
			assert.Contains(t, out.String(), "merged   authz/authz.rego")
			again, err := planUpgrade(t.Context(), folder)
			require.NoError(t, err)
			assert.Empty(t, again.merged, "it is changed here alone now")
			assert.Empty(t, again.conflicts)
		})
	}
}

// TestUpgradeOfWhatWasChanged holds that a file is left of which both changed the same lines,
// and that both changes and what own rules need are shown.
func TestUpgradeOfWhatWasChanged(t *testing.T) {
	folder := oldFolder(t)
	file := filepath.Join(folder, "authz", "authz.rego")
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	changed := strings.Replace(string(content), "\ndecision := ", "\n# Ours.\ndecision := ", 1)
	require.NotEqual(t, string(content), changed)
	require.NoError(t, os.WriteFile(file, []byte(changed), 0o600))
	require.NoError(t, os.Remove(filepath.Join(folder, ".gitlab-ci.yml")))
	u, err := planUpgrade(t.Context(), folder)
	require.NoError(t, err)
	require.Len(t, u.conflicts, 1)
	assert.Equal(t, []string{".gitlab-ci.yml"}, u.gone)
	var out bytes.Buffer
	require.NoError(t, u.tell(output{w: &out}))
	assert.Contains(t, out.String(), "+# Ours.")
	assert.Contains(t, out.String(), "  forbidden contains reason if some reason in data.patrol.custom.deny\n")
	assert.Contains(t, out.String(), "+forbidden contains reason if some reason in data.patrol.custom.deny")
	require.NoError(t, u.write(folder))
	left, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, changed, string(left))
}
