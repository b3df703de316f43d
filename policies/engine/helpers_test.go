package engine_test

import (
	"fmt"
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

// bundle returns the default bundle with some files replaced; "" takes one away.
func bundle(t testing.TB, replaced map[string]string) engine.Source {
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

func load(t testing.TB, replaced map[string]string, opts ...engine.Option) *engine.Snapshot {
	t.Helper()
	s, err := engine.Load(t.Context(), bundle(t, replaced), append([]engine.Option{engine.WithTimeout(10 * time.Second)}, opts...)...)
	require.NoError(t, err)
	return s
}

var now = time.Unix(1790500000, 0)

// The request that everything is tried on, and the facts that allow it.
var (
	readModel = models.Request{Domain: "acme", EntityType: "models", Entity: "llama3", Operation: "read"}
	pat       = models.PAT{
		ID: "aaaaaaaaaaaaaaaa", UserID: "u1", Name: "ci", CreatedAt: now.Add(-time.Hour), ExpiresAt: now.Add(time.Hour),
		Scopes: []models.Scope{
			{ID: "scope-1", Domain: "acme", EntityType: "models", Entity: "*", Operation: "read"},
			{ID: "scope-2", Domain: "acme", EntityType: "models", Entity: "phi", Operation: "execute"},
		},
	}
	user   = models.User{ID: "u1", Email: "ann@example.com"}
	admin  = models.User{ID: "u1", Email: "ann@example.com", Admin: true}
	domain = models.Domain{ID: "acme", Status: models.DomainEnabled}
	member = models.Membership{UserID: "u1", Domain: "acme", Role: "member"}
)

func facts() engine.Facts {
	return engine.Facts{
		Token: engine.TokenValue(pat), User: engine.UserValue(user),
		Domain: engine.DomainValue(domain), Membership: engine.MembershipValue(member),
	}
}

func in(status models.DomainStatus) *engine.Value {
	return engine.DomainValue(models.Domain{ID: "acme", Status: status})
}

func as(role string) *engine.Value { return engine.MembershipValue(models.Membership{Role: role}) }

func codes(d models.Decision) []models.ReasonCode {
	codes := make([]models.ReasonCode, 0, len(d.Reasons))
	for _, r := range d.Reasons {
		codes = append(codes, r.Code)
	}
	return codes
}

// naming is a body in which fields name something: field, value, field, value, ….
func naming(pairs ...string) *models.HTTPBody {
	b := &models.HTTPBody{}
	for i := 0; i < len(pairs); i += 2 {
		b.Fields = append(b.Fields, models.HTTPField{Name: pairs[i], Value: pairs[i+1]})
	}
	return b
}

// asks is what a proxied request asks for, as scopes.
func asks(reqs []models.Request) string {
	scopes := make([]string, len(reqs))
	for i, req := range reqs {
		scopes[i] = req.Scope()
	}
	return strings.Join(scopes, " ")
}

// edited is the file of the default bundle with one text replaced by another.
func edited(t testing.TB, file, from, to string) map[string]string {
	t.Helper()
	content, err := policies.FS.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(content), from)
	return map[string]string{file: strings.Replace(string(content), from, to, 1)}
}

func found(r *engine.Report) (lines []string) {
	for _, f := range r.Findings {
		lines = append(lines, fmt.Sprintf("%s %s %s", f.Stage, f.Code, f))
	}
	return lines
}
