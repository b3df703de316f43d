//go:build !race

package workbench_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/policies/engine/workbench"
)

func loaded(t testing.TB, files map[string]string) workbench.Loaded {
	t.Helper()
	return workbench.Loaded{Source: bundle(t, files), Snapshot: patient(t, files)}
}

// replaced is a file of the default bundle with one text in place of another.
func replaced(t testing.TB, file, from, to string) map[string]string {
	t.Helper()
	content := string(bundle(t, nil).Files[file])
	require.Contains(t, content, from)
	return map[string]string{file: strings.Replace(content, from, to, 1)}
}

// told are differences in short.
func told(r *workbench.DiffReport) (short []string) {
	for _, d := range r.Differences {
		short = append(short, string(d.Kind)+" "+string(d.Part)+" "+d.Name)
	}
	return short
}

func TestDiff(t *testing.T) {
	const rules, roles, catalog, routes = "authz/authz.rego", "patrol/roles/data.yaml", "patrol/catalog/data.yaml", "patrol/routes/data.yaml"
	for name, c := range map[string]struct {
		files           map[string]string
		want            []string
		allowed, denied bool     // some known decisions are newly so
		requests        []string // and what they stand for after that
	}{
		"nothing":                  {},
		"another layout":           {files: replaced(t, rules, "token_unrevoked if input.token.revoked == false", "token_unrevoked if {\n\n\tinput.token.revoked   == false\n}")},
		"a comment":                {files: replaced(t, rules, "token_unrevoked if input.token.revoked == false", "token_unrevoked if input.token.revoked == false # really")},
		"tests":                    {files: map[string]string{"authz/more_test.rego": "package patrol.authz_test\n\ntest_more if true\n"}},
		"a rule":                   {files: replaced(t, rules, "token_unrevoked if input.token.revoked == false", "token_unrevoked if true"), want: []string{"changed rule data.patrol.authz.token_unrevoked"}},
		"one of several rules":     {files: replaced(t, rules, "message: This access token has expired.", "message: It has expired."), want: []string{"changed rule data.patrol.authz.unauthenticated", "changed reason token_expired"}},
		"a title":                  {files: replaced(t, rules, "title: The token has expired", "title: It is too old"), want: []string{"changed rule data.patrol.authz.unauthenticated"}},
		"a rule more":              {files: map[string]string{"custom/custom.rego": closedRule}, want: []string{"added rule data.patrol.custom.reason", "added reason closed"}, denied: true},
		"a role may more":          {files: replaced(t, roles, "models: {read: true}", "models: {read: true, execute: true}"), want: []string{"added role viewer models/execute"}, allowed: true},
		"a role may less":          {files: replaced(t, roles, "datasets: {read: true}", "datasets: {}"), want: []string{"removed role viewer datasets/read"}, denied: true},
		"an operation more":        {files: replaced(t, catalog, "    operations:\n", "    operations:\n      paint: {title: Paint}\n"), want: []string{"added operation models/paint"}, allowed: true},
		"an operation's title":     {files: replaced(t, catalog, "title: Manage", "title: Change"), want: []string{"changed operation models/write"}},
		"a route more":             {files: replaced(t, routes, `"GET /v1/models": `, "\"GET /buckets/*\": {entity_type: datasets, operation: read, entity: {path: 1}}\n\"GET /v1/models\": "), want: []string{"added route GET /buckets/*"}, requests: []string{"GET /proxy/acme/buckets/one acme:datasets:one:read"}},
		"a document more":          {files: map[string]string{"patrol/limits/data.json": `{"most": 3}`}, want: []string{"added data data.patrol.limits"}},
		"a role that nobody meant": {files: replaced(t, roles, "viewer:", "guest: {models: {read: true}}\nviewer:"), want: []string{"added role guest", "added role guest models/read"}, allowed: true},
	} {
		t.Run(name, func(t *testing.T) {
			before, after := loaded(t, nil), loaded(t, c.files)
			r, err := workbench.Diff(t.Context(), before, after, 2)
			require.NoError(t, err)
			assert.Equal(t, c.want, told(r))
			assert.Equal(t, c.allowed, r.Decisions.NewlyAllowed > 0)
			assert.Equal(t, c.denied, r.Decisions.NewlyDenied > 0)
			var requests []string
			for _, q := range r.Requests {
				requests = append(requests, q.Request+" "+q.After)
			}
			assert.Equal(t, c.requests, requests)
			assert.Equal(t, len(c.want) == 0, r.Same())

			back, err := workbench.Diff(t.Context(), after, before, 2)
			require.NoError(t, err)
			assert.Len(t, back.Differences, len(r.Differences))
			assert.Equal(t, r.Decisions.NewlyAllowed, back.Decisions.NewlyDenied)
			assert.Equal(t, r.Decisions.NewlyDenied, back.Decisions.NewlyAllowed)
		})
	}
}

const closedRule = `package patrol.custom

# METADATA
# title: Closed
# custom:
#   code: closed
#   message: It is closed.
reason := {"code": "closed", "message": "It is closed."}
`

// TestDiffTellsWhereAndWhat holds what is told of one difference of each kind.
func TestDiffTellsWhereAndWhat(t *testing.T) {
	after := loaded(t, replaced(t, "authz/authz.rego", "token_unrevoked if input.token.revoked == false", "token_unrevoked if true"))
	r, err := workbench.Diff(t.Context(), loaded(t, nil), after, 1)
	require.NoError(t, err)
	require.Len(t, r.Differences, 1)
	d := r.Differences[0]
	assert.Equal(t, "The token is not revoked", d.Title)
	assert.Equal(t, "token_unrevoked if input.token.revoked == false", d.Before)
	assert.Equal(t, "token_unrevoked if true", d.After)
	lines := strings.Split(string(after.Source.Files["authz/authz.rego"]), "\n")
	assert.Equal(t, d.After, lines[d.Line-1])
	assert.Equal(t, after.Snapshot.Revision(), r.After.Revision)
	assert.NotEqual(t, r.Before.Digest, r.After.Digest)

	// A revoked token is still not allowed, but for another reason that is left.
	require.NotZero(t, r.Decisions.Changes())
	for _, g := range r.Decisions.Groups {
		require.Len(t, g.Examples, 1)
		assert.NotEmpty(t, g.Examples[0].ID)
		assert.Contains(t, g.Examples[0].Request, ":")
	}
}
