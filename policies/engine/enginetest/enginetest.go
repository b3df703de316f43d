// Package enginetest has what tests of policies share: the default bundle with changes, and
// the facts that allow one request.
package enginetest

import (
	"io/fs"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/policies"
	"patrol/policies/engine"
)

// Bundle returns the default bundle with some files replaced; "" takes one away.
func Bundle(t testing.TB, replaced map[string]string) engine.Source {
	t.Helper()
	src := engine.Source{Name: "test", Files: map[string][]byte{}}
	require.NoError(t, fs.WalkDir(policies.FS, ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			src.Files[p], err = policies.FS.ReadFile(p)
		}
		return err
	}))
	for name, content := range replaced {
		src.Files[name] = []byte(content)
	}
	maps.DeleteFunc(src.Files, func(_ string, content []byte) bool { return len(content) == 0 })
	return src
}

// Load loads the default bundle with some files replaced.
func Load(t testing.TB, replaced map[string]string, opts ...engine.Option) *engine.Snapshot {
	t.Helper()
	s, err := engine.Load(t.Context(), Bundle(t, replaced), append([]engine.Option{engine.WithTimeout(10 * time.Second)}, opts...)...)
	require.NoError(t, err)
	return s
}

// Now is the time in all inputs.
var Now = time.Unix(1790500000, 0)

// The request that everything is tried on, and the facts that allow it.
var (
	ReadModel = models.Request{Domain: "acme", EntityType: "models", Entity: "llama3", Operation: "read"}
	PAT       = models.PAT{
		ID: "aaaaaaaaaaaaaaaa", UserID: "u1", Name: "ci", CreatedAt: Now.Add(-time.Hour), ExpiresAt: Now.Add(time.Hour),
		Scopes: []models.Scope{
			{ID: "scope-1", Domain: "acme", EntityType: "models", Entity: "*", Operation: "read"},
			{ID: "scope-2", Domain: "acme", EntityType: "models", Entity: "phi", Operation: "execute"},
		},
	}
	User   = models.User{ID: "u1", Email: "ann@example.com"}
	Admin  = models.User{ID: "u1", Email: "ann@example.com", Admin: true}
	Domain = models.Domain{ID: "acme", Status: models.DomainEnabled}
	Member = models.Membership{UserID: "u1", Domain: "acme", Role: "member"}
)

// Facts allow ReadModel.
func Facts() engine.Facts {
	return engine.Facts{
		Token: engine.TokenValue(PAT), User: engine.UserValue(User),
		Domain: engine.DomainValue(Domain), Membership: engine.MembershipValue(Member),
	}
}

// In is a domain with a status.
func In(status models.DomainStatus) *engine.Value {
	return engine.DomainValue(models.Domain{ID: "acme", Status: status})
}

// As is a membership with a role.
func As(role string) *engine.Value { return engine.MembershipValue(models.Membership{Role: role}) }

// Codes are those of the reasons of a decision.
func Codes(d models.Decision) []models.ReasonCode {
	all := make([]models.ReasonCode, 0, len(d.Reasons))
	for _, r := range d.Reasons {
		all = append(all, r.Code)
	}
	return all
}

// Naming is a body in which fields name something: field, value, field, value, ….
func Naming(pairs ...string) *models.HTTPBody {
	b := &models.HTTPBody{}
	for i := 0; i < len(pairs); i += 2 {
		b.Fields = append(b.Fields, models.HTTPField{Name: pairs[i], Value: pairs[i+1]})
	}
	return b
}

// Asks returns the questions of a proxied request as scopes.
func Asks(reqs []models.Request) string {
	scopes := make([]string, len(reqs))
	for i, req := range reqs {
		scopes[i] = req.Scope()
	}
	return strings.Join(scopes, " ")
}

// Edited is the file of the default bundle with one text replaced by another.
func Edited(t testing.TB, file, from, to string) map[string]string {
	t.Helper()
	content, err := policies.FS.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(content), from)
	return map[string]string{file: strings.Replace(string(content), from, to, 1)}
}
