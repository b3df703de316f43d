package gateway_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/secret"
	"patrol/models"
	"patrol/server/authz"
	"patrol/server/gateway"
)

// The authorizer of the server fits as it is.
var _ = gateway.New[*authz.Proxied]

func TestDefaultConfigIsValid(t *testing.T) {
	require.NoError(t, gateway.DefaultConfig().Validate())
}

func TestConfigValidate(t *testing.T) {
	forAny := func(u gateway.Upstream) func(*gateway.Config) {
		return func(c *gateway.Config) { c.Upstreams = map[string]gateway.Upstream{"*": u} }
	}
	at := func(url string) func(*gateway.Config) { return forAny(gateway.Upstream{URL: url}) }
	header := func(name, value string) func(*gateway.Config) {
		return forAny(gateway.Upstream{URL: "http://a", Headers: map[string]secret.Text{name: secret.Text(value)}})
	}
	for name, c := range map[string]struct {
		change func(*gateway.Config)
		field  string // "" if it is valid
	}{
		"http":                      {at("http://127.0.0.1:11434"), ""},
		"https with a path":         {at("https://models.example/serving/v1/"), ""},
		"ipv6":                      {at("http://[::1]:80"), ""},
		"no URL":                    {at(""), "upstreams.*.url"},
		"no scheme":                 {at("models.example"), "upstreams.*.url"},
		"another scheme":            {at("ftp://models.example"), "upstreams.*.url"},
		"opaque":                    {at("http:models.example"), "upstreams.*.url"},
		"no host":                   {at("http:///v1"), "upstreams.*.url"},
		"only a port":               {at("http://:80"), "upstreams.*.url"},
		"user":                      {at("http://user:hunter2@models.example"), "upstreams.*.url"},
		"query":                     {at("http://models.example/?key=hunter2"), "upstreams.*.url"},
		"empty query":               {at("http://models.example/?"), "upstreams.*.url"},
		"fragment":                  {at("http://models.example/#x"), "upstreams.*.url"},
		"dot segments":              {at("http://models.example/a/../b"), "upstreams.*.url"},
		"encoded slash":             {at("http://models.example/a%2fb"), "upstreams.*.url"},
		"control character":         {at("http://models.example/\x00"), "upstreams.*.url"},
		"domain in capitals":        {func(c *gateway.Config) { c.Upstreams = map[string]gateway.Upstream{"Acme": {URL: "http://a"}} }, "upstreams.Acme"},
		"header":                    {header("X-Team", "red"), ""},
		"header with a blank":       {header("X Team", "red"), "upstreams.*.headers"},
		"header with an underscore": {header("X_Team", "red"), "upstreams.*.headers"},
		"header of ours":            {header("x-patrol-user", "root"), "upstreams.*.headers"},
		"header of the protocol":    {header("Content-Length", "1"), "upstreams.*.headers"},
		"split header":              {header("X-Team", "hunter2\r\nX: y"), "upstreams.*.headers"},
		"credential":                {forAny(gateway.Upstream{URL: "http://a", Credential: "Bearer x"}), ""},
		"credential elsewhere":      {forAny(gateway.Upstream{URL: "http://a", Credential: "x", CredentialHeader: "X-Api-Key"}), ""},
		"credential in Host":        {forAny(gateway.Upstream{URL: "http://a", Credential: "x", CredentialHeader: "Host"}), "upstreams.*.credential_header"},
		"credential with line end":  {forAny(gateway.Upstream{URL: "http://a", Credential: "hunter2\n"}), "upstreams.*.credential_header"},
		"header for no credential":  {forAny(gateway.Upstream{URL: "http://a", CredentialHeader: "X-Api-Key"}), "upstreams.*.credential_header"},
		"public URL":                {func(c *gateway.Config) { c.PublicURL = "https://patrol.example" }, ""},
		"public URL of nothing":     {func(c *gateway.Config) { c.PublicURL = "patrol" }, "public_url"},
		"no JSON":                   {func(c *gateway.Config) { c.MaxJSONBody = 0 }, "max_json_body"},
		"no forms":                  {func(c *gateway.Config) { c.MaxMultipartBody = -1 }, "max_multipart_body"},
		"no time for bodies":        {func(c *gateway.Config) { c.BodyTimeout = 0 }, "body_timeout"},
		"no streams":                {func(c *gateway.Config) { c.MaxStream = 0 }, "max_stream"},
		"no time to connect":        {func(c *gateway.Config) { c.DialTimeout = 0 }, "dial_timeout"},
		"no time to answer":         {func(c *gateway.Config) { c.HeaderTimeout = 0 }, "header_timeout"},
		"no time to idle":           {func(c *gateway.Config) { c.IdleTimeout = 0 }, "idle_timeout"},
		"no idle connections":       {func(c *gateway.Config) { c.MaxIdle = 0 }, "max_idle"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := gateway.DefaultConfig()
			c.change(&cfg)
			err := cfg.Validate()
			if c.field == "" {
				require.NoError(t, err)
				return
			}
			var invalid *models.Error
			require.ErrorAs(t, err, &invalid)
			require.Len(t, invalid.Fields, 1)
			assert.Equal(t, c.field, invalid.Fields[0].Field)
			assert.NotContains(t, err.Error(), "hunter2")
			_, err = gateway.New(cfg, &judge{}, slog.New(slog.DiscardHandler))
			require.Error(t, err)
		})
	}
}

func TestSecretsMaskThemselves(t *testing.T) {
	u := gateway.Upstream{URL: "http://a", Headers: map[string]secret.Text{"X-Key": "hunter2"}, Credential: "hunter2"}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "upstream", u, "credential", u.Credential)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "upstream", u, "credential", u.Credential)
	document, err := json.Marshal(u)
	require.NoError(t, err)
	for _, text := range []string{
		fmt.Sprint(u), fmt.Sprintf("%+v %#v", u, u), fmt.Sprintf("%s %q %x %v", u.Credential, u.Credential, u.Credential, u.Credential), log.String(), string(document),
	} {
		assert.NotContains(t, text, "hunter2")
		assert.NotContains(t, text, "68756e74657232")
		assert.Contains(t, text, "***")
	}
	assert.Equal(t, "hunter2", string(u.Credential))
	assert.Empty(t, secret.Text("").String())
}
