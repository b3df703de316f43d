package server

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestConfig(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	for _, tc := range []struct {
		says   string
		change func(*Config)
	}{
		{"host:port", func(c *Config) { c.Listen = "localhost" }},
		{"host:port", func(c *Config) { c.Listen = "localhost:99999" }},
		{"metrics listen", func(c *Config) { c.MetricsListen = ":x" }},
		{"public URL", func(c *Config) { c.PublicURL = "patrol.example.com" }},
		{"public URL", func(c *Config) { c.PublicURL = "ftp://patrol.example.com" }},
		{"root of its host", func(c *Config) { c.PublicURL = "https://example.com/patrol" }},
		{"root of its host", func(c *Config) { c.PublicURL = "https://me:secret@example.com" }},
		{"data directory", func(c *Config) { c.DataDir = "" }},
		{"trusted proxy", func(c *Config) { c.TrustedProxies = []string{"proxy.internal"} }},
		{"setup code", func(c *Config) { c.SetupValidFor = 0 }},
		{"token limits", func(c *Config) { c.Limits.MaxScopes = 0 }},
		{"both a certificate", func(c *Config) { c.TLS.CertFile = "cert.pem" }},
		{"reload interval", func(c *Config) { c.TLS.ReloadInterval = 0 }},
		{"read timeout", func(c *Config) { c.HTTP.ReadTimeout = 0 }},
		{"write timeout", func(c *Config) { c.HTTP.WriteTimeout = -time.Second }},
		{"header size", func(c *Config) { c.HTTP.MaxHeaderBytes = 100 }},
		{"body size", func(c *Config) { c.HTTP.MaxBodyBytes = 100 }},
		{"session times", func(c *Config) { c.Sessions.FreshFor = 0 }},
		{"longer than its lifetime", func(c *Config) { c.Sessions.IdleTimeout = 8 * 24 * time.Hour }},
		{"login limits", func(c *Config) { c.Login.PerAddress = 0 }},
		{"too cheap", func(c *Config) { c.Login.Argon2Memory = 4 << 10 }},
		{"too cheap", func(c *Config) { c.Login.Argon2Iterations = 1 }},
		{"too expensive", func(c *Config) { c.Login.Argon2Memory = 8 << 20 }},
		{"concurrency", func(c *Config) { c.Login.Concurrency = 0 }},
	} {
		t.Run(tc.says, func(t *testing.T) {
			cfg := DefaultConfig()
			tc.change(&cfg)
			require.ErrorContains(t, cfg.Validate(), tc.says)
			assert.NotContains(t, cfg.Validate().Error(), "secret")
		})
	}
	t.Run("all at once", func(t *testing.T) {
		err := Config{}.Validate()
		for _, part := range []string{"listen", "data directory", "idle timeout", "session", "argon2id"} {
			assert.ErrorContains(t, err, part)
		}
	})
}
