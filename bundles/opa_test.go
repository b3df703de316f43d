package bundles

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
	"patrol/policies"
)

// opa is OPA's own program, run in a folder.
type opa struct {
	*testing.T
	path, dir string
}

func newOPA(t *testing.T) opa {
	t.Helper()
	return opa{t, testenv.OPA(t), t.TempDir()}
}

func (o opa) run(args ...string) (string, error) {
	cmd := exec.CommandContext(o.Context(), o.path, args...)
	cmd.Dir = o.dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (o opa) succeed(args ...string) string {
	o.Helper()
	out, err := o.run(args...)
	require.NoError(o, err, "opa %s: %s", strings.Join(args, " "), out)
	return out
}

func (o opa) write(name, content string) string {
	o.Helper()
	path := filepath.Join(o.dir, name)
	require.NoError(o, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(o, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// keys writes a pair of keys.
func (o opa) keys(p pair) (private, public string) {
	o.Helper()
	return o.write("private.pem", p.private), o.write("public.pem", p.public)
}

// thePolicies is the repository's folder of that name, as it stands.
func thePolicies(t testing.TB) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "policies"))
	require.NoError(t, err)
	return path
}

// TestOPATakesThePolicies holds that OPA's own tools work on the folder as it stands.
func TestOPATakesThePolicies(t *testing.T) {
	o := newOPA(t)
	folder := thePolicies(t)
	schemas, capabilities := filepath.Join(folder, "schemas"), filepath.Join(folder, "capabilities.json")
	o.succeed("check", "--strict", "--bundle", "--schema", schemas, "--capabilities", capabilities, folder)
	out := o.succeed("test", "--timeout", "1m", "--bundle", folder)
	assert.NotContains(t, out, "FAIL")
	assert.Contains(t, out, "PASS: ")
	out = o.succeed("test", "--timeout", "1m", "--bundle", "--coverage", folder)
	var coverage struct{ Coverage float64 }
	require.NoError(t, json.Unmarshal([]byte(out), &coverage))
	assert.InDelta(t, 100, coverage.Coverage, 0)
	assert.Empty(t, o.succeed("fmt", "--list", filepath.Join(folder, "authz"), filepath.Join(folder, "http"), filepath.Join(folder, "log")))

	misspelt := strings.ReplaceAll(fileOf(t, "authz/authz.rego"), "input.token.revoked", "input.token.revoke")
	wrong := o.write("wrong/authz.rego", misspelt)
	out, err := o.run("check", "--strict", "--schema", schemas, "--capabilities", capabilities, wrong)
	require.Error(t, err, "the schemas bite in OPA as well")
	assert.Contains(t, out, "undefined ref: input.token.revoke")
}

func fileOf(t testing.TB, name string) string {
	t.Helper()
	content, err := policies.FS.ReadFile(name)
	require.NoError(t, err)
	return string(content)
}

// TestPatrolTakesWhatOPAMakes holds that what OPA built from the policies comes into
// force, and is verified if OPA signed it, at once or afterwards.
func TestPatrolTakesWhatOPAMakes(t *testing.T) {
	o := newOPA(t)
	key := rsaPairs()[0]
	private, _ := o.keys(key)
	v := verifier(t, "", key.key("release"))
	folder := thePolicies(t)
	embedded, err := Read(t.Context(), "", nil)
	require.NoError(t, err)

	o.succeed("build", "--bundle", folder, "--revision", "v1", "--output", "plain.tar.gz")
	b, err := Read(t.Context(), filepath.Join(o.dir, "plain.tar.gz"), nil)
	require.NoError(t, err)
	report := passes(t, b.Source)
	assert.Equal(t, "v1", report.Revision)
	assert.Equal(t, passes(t, embedded.Source).Tests.Passed, report.Tests.Passed, "no test is lost")
	assert.NotContains(t, b.Files, "capabilities.json", "which the README says of opa build")
	_, err = Read(t.Context(), filepath.Join(o.dir, "plain.tar.gz"), v)
	require.ErrorContains(t, err, "it is not signed")

	o.succeed("build", "--bundle", folder, "--signing-key", private, "--verification-key-id", "release", "--output", "signed.tar.gz")
	b, err = Read(t.Context(), filepath.Join(o.dir, "signed.tar.gz"), v)
	require.NoError(t, err)
	assert.Equal(t, "release", b.SignedBy)
	passes(t, b.Source)

	// opa sign writes a file that is added to the archive.
	claims := o.write("claims.json", `{"keyid": "release"}`)
	o.succeed("sign", "--bundle", "plain.tar.gz", "--signing-key", private, "--claims-file", claims)
	plain, err := Read(t.Context(), filepath.Join(o.dir, "plain.tar.gz"), nil)
	require.NoError(t, err)
	all := map[string]string{}
	for name, content := range plain.Files {
		all[name] = string(content)
	}
	signature, err := os.ReadFile(filepath.Join(o.dir, SignaturesFile))
	require.NoError(t, err)
	all[SignaturesFile] = string(signature)
	b, err = Unpack(t.Context(), "signed afterwards", packed(t, all), v)
	require.NoError(t, err)
	assert.Equal(t, "release", b.SignedBy)

	// A folder is signed from inside it.
	inside := opa{t, o.path, filepath.Join(o.dir, "policy")}
	for name, content := range embedded.Files {
		inside.write(name, string(content))
	}
	inside.write(".regal/config.yaml", "rules: {}\n")
	inside.write("README.md", "# Policy\n")
	inside.succeed("sign", "--bundle", ".", "--signing-key", private, "--claims-file", claims)
	b, err = Read(t.Context(), inside.dir, v)
	require.NoError(t, err)
	assert.Equal(t, "release", b.SignedBy)
	inside.write("patrol/roles/data.yaml", "guest: {models: {read: true}}\n")
	_, err = Read(t.Context(), inside.dir, v)
	require.ErrorContains(t, err, "patrol/roles/data.yaml: digest mismatch")
}

// TestOPATakesWhatPatrolMakes holds that OPA verifies what is built and signed here, and
// decides by it alike.
func TestOPATakesWhatPatrolMakes(t *testing.T) {
	o := newOPA(t)
	key := rsaPairs()[0]
	_, public := o.keys(key)
	other := o.write("other.pem", rsaPairs()[1].public)
	s, err := NewSigner(Key{ID: "release", Algorithm: "RS256", Secret: key.private}, "")
	require.NoError(t, err)
	embedded, err := Read(t.Context(), thePolicies(t), nil)
	require.NoError(t, err)
	built, err := Build(t.Context(), embedded, "v1")
	require.NoError(t, err)
	passes(t, built.Source)
	signed, err := s.SignArchive(t.Context(), "policy.tar.gz", built.Archive)
	require.NoError(t, err)
	o.write("plain.tar.gz", string(built.Archive))
	o.write("policy.tar.gz", string(signed.Archive))

	assert.Contains(t, o.succeed("test", "--bundle", "plain.tar.gz"), "PASS: ")
	verify := func(archive, public, id string) (string, error) {
		return o.run("build", "--bundle", archive, "--verification-key", public, "--verification-key-id", id, "--output", "again.tar.gz")
	}
	out, err := verify("policy.tar.gz", public, "release")
	require.NoError(t, err, out)
	out, err = verify("policy.tar.gz", other, "release")
	require.Error(t, err)
	assert.Contains(t, out, "failed to verify JWT signature")
	_, err = verify("plain.tar.gz", public, "release")
	require.Error(t, err, "it is not signed")

	input := o.write("input.json", `{"request": {"domain": "acme", "entity_type": "models", "entity": "x", "operation": "read", "context": {}},
		"token": {"id": "t", "name": "n", "revoked": false, "created_at": 1, "expires_at": 9, "scopes": {"acme": {"models": {"read": {"*": "s1"}}}}},
		"user": {"id": "u", "email": "", "admin": false, "disabled": false}, "domain": {"id": "acme", "status": "enabled"}, "membership": {"role": "viewer"}, "now": 5}`)
	out = o.succeed("eval", "--bundle", "again.tar.gz", "--input", input, "--format", "raw", "data.patrol.authz.decision")
	assert.JSONEq(t, `{"allow": true, "reasons": [], "scope": "s1"}`, out)

	// A signed folder becomes a signed archive by packing it.
	inside := opa{t, o.path, filepath.Join(o.dir, "policy")}
	for name, content := range embedded.Files {
		inside.write(name, string(content))
	}
	_, signature, err := s.SignFolder(t.Context(), inside.dir)
	require.NoError(t, err)
	inside.write(SignaturesFile, string(signature))
	b, err := Read(t.Context(), inside.dir, s.self)
	require.NoError(t, err)
	o.write("folder.tar.gz", string(b.Archive))
	out, err = verify("folder.tar.gz", public, "release")
	require.NoError(t, err, out)
}
