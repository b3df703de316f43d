package e2e_test

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/policies"
)

// incident is custom/incident.rego of the README of the policies, with an end that is to come.
func incident(t *testing.T, until time.Time) string {
	t.Helper()
	code := exampleIn(t, "../policies/README.md", "custom/incident.rego")
	require.Contains(t, code, "1792592000")
	return strings.ReplaceAll(code, "1792592000", strconv.FormatInt(until.Unix(), 10))
}

// exampleIn returns the code of a file that a page shows.
func exampleIn(t *testing.T, page, file string) string {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	_, code, found := strings.Cut(string(text), "This is `"+file+"`:\n\n```rego\n")
	require.True(t, found, "%s shows no %s", page, file)
	code, _, _ = strings.Cut(code, "```")
	return code
}

// policyFolder writes the default policy and other files into a folder.
func policyFolder(t *testing.T, others map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, content []byte) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o750))
		require.NoError(t, os.WriteFile(path, content, 0o600))
	}
	require.NoError(t, fs.WalkDir(policies.FS, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := policies.FS.ReadFile(name)
		write(name, content)
		return err
	}))
	for name, content := range others {
		write(name, []byte(content))
	}
	return dir
}

// TestDepartures holds that an exception which was used, and labels, are told wherever a
// decision is: the answer, the log, Envoy's metadata, and Envoy's own access log.
func TestDepartures(t *testing.T) {
	until := time.Now().Add(24 * time.Hour).Truncate(time.Second).UTC()
	up := newUpstream(t)
	log := &taken{}
	b := &testBench{patrol: openPatrol(t, testenv.SQLite(t), up.url, options{
		policy: policyFolder(t, map[string]string{"custom/incident.rego": incident(t, until)}), recorder: log,
	}), up: up, addrs: map[string]string{}}
	by := models.Actor{Kind: models.ActorSystem}
	ann, err := b.store.CreateUser(t.Context(), by, models.User{Email: "ann@example.com", Name: "Ann"})
	require.NoError(t, err)
	_, err = b.store.SetMember(t.Context(), by, models.Membership{UserID: ann.ID, Domain: "acme", Role: "viewer"})
	require.NoError(t, err)
	b.users["ann"] = ann.ID
	b.tokens["ann"], _ = b.mint(t, "ann", "ann", "acme:models:*:execute")
	waived := api.Waived{Code: models.RoleForbids, Because: "INC-123", Until: &until}
	told := func(t *testing.T) {
		t.Helper()
		d := lastOf(t, log)
		assert.Equal(t, []models.Waiver{{Code: models.RoleForbids, Because: "INC-123", Until: until.Unix()}}, d.Waived)
		assert.Equal(t, map[string]string{"alert": "break-glass"}, d.Labels)
	}
	wire := testCase{Token: "ann", Send: "POST /proxy/acme/v1/chat/completions", Headers: []string{"Content-Type: application/json"}, Body: `{"model": "llama3"}`}

	t.Run(onAuthorize, func(t *testing.T) {
		body := `{"token": "` + b.tokens["ann"] + `", "domain": "acme", "entity_type": "models", "entity": "llama3", "operation": "execute"}`
		res := exchange(t, b.http, http.MethodPost, "/authorize", []string{"Host: patrol", "Content-Type: application/json"}, body)
		require.Equal(t, http.StatusOK, res.status, res.body)
		var d api.Decision
		require.NoError(t, json.Unmarshal([]byte(res.body), &d))
		assert.True(t, d.Allowed, res.body)
		assert.Equal(t, []api.Waived{waived}, d.Waived)
		assert.Equal(t, map[string]string{"alert": "break-glass"}, d.Labels)
		told(t)
	})
	t.Run(onGateway, func(t *testing.T) {
		method, target, lines, body := b.wire(wire, onGateway)
		assert.Equal(t, http.StatusOK, exchange(t, b.http, method, target, lines, body).status)
		told(t)
	})
	t.Run(onGRPC, func(t *testing.T) {
		conn, err := grpc.NewClient(b.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close()) }()
		res, err := authv3.NewAuthorizationClient(conn).Check(t.Context(), checkRequest(b.wire(wire, onGRPC)))
		require.NoError(t, err)
		require.NotNil(t, res.GetOkResponse())
		fields := res.GetDynamicMetadata().AsMap()
		assert.Equal(t, map[string]any{"alert": "break-glass"}, fields["labels"])
		assert.Equal(t, []any{"role_forbids"}, fields["waived"])
		told(t)
	})
	t.Run(onEnvoyGRPC, func(t *testing.T) {
		access := filepath.Join(t.TempDir(), "access.log")
		addr := startEnvoyWith(t, "envoy.yaml", "10000", b.grpc, up.addr, func(config string) string {
			config = strings.Replace(config, "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog\n", "envoy.extensions.access_loggers.file.v3.FileAccessLog\n                      path: "+access+"\n", 1)
			config = strings.Replace(config, "name: envoy.access_loggers.stdout", "name: envoy.access_loggers.file", 1)
			const reason = "                          reason: \"%DYNAMIC_METADATA(envoy.filters.http.ext_authz:reason)%\"\n"
			require.Contains(t, config, reason)
			return strings.Replace(config, reason, reason+strings.ReplaceAll(reason, "reason", "labels")+strings.ReplaceAll(reason, "reason", "waived"), 1)
		})
		method, target, lines, body := b.wire(wire, onEnvoyGRPC)
		require.Equal(t, http.StatusOK, exchange(t, addr, method, target, lines, body).status)
		told(t)
		var line []byte
		require.Eventually(t, func() bool { line, _ = os.ReadFile(access); return len(line) > 0 }, patience, 50*time.Millisecond)
		var logged struct{ Labels, Waived any }
		require.NoError(t, json.Unmarshal([]byte(strings.SplitN(string(line), "\n", 2)[0]), &logged), string(line))
		assert.Equal(t, map[string]any{"alert": "break-glass"}, logged.Labels)
		assert.Equal(t, []any{"role_forbids"}, logged.Waived)
	})
	t.Run("somebody else", func(t *testing.T) { // for whom nobody makes an exception
		b.tokens["viewer2"], _ = b.mint(t, "viewer", "viewer2", "acme:models:*:execute")
		other := wire
		other.Token = "viewer2"
		method, target, lines, body := b.wire(other, "somebody")
		assert.Equal(t, http.StatusForbidden, exchange(t, b.http, method, target, lines, body).status)
		d := lastOf(t, log)
		assert.Empty(t, d.Waived)
		assert.Empty(t, d.Labels)
	})
}

// lastOf is the decision that was recorded last.
func lastOf(t *testing.T, log *taken) models.Decision {
	t.Helper()
	records := log.take()
	require.NotEmpty(t, records)
	return records[len(records)-1].Decision
}
