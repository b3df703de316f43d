package authz_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/server/authz"
)

// TestNamesAreJudgedInCanonicalForm asks with tokens whose scopes were written before
// anybody thought of spellings, in domains with several kinds of upstreams.
func TestNamesAreJudgedInCanonicalForm(t *testing.T) {
	var records recorder
	b := newBed(t, func(c *authz.Config) {
		c.Kinds = models.DomainKinds{"acme": models.UpstreamOllama, "exact": "", "lite": models.UpstreamLiteLLM}
		c.Recorder = &records
	})
	for _, domain := range []string{"exact", "lite"} {
		b.world.domains[domain] = models.Domain{ID: domain, Status: models.DomainEnabled}
		b.world.members[[2]string{"u1", domain}] = models.Membership{UserID: "u1", Domain: domain, Role: "member"}
	}
	b.start(t)
	for _, c := range []struct {
		scopes []string
		kind   models.UpstreamKind // that the surface says
		ask    string
		scope  int    // the one that grants; -1: denied
		judged string // the entity; "": as asked
		reason models.ReasonCode
	}{
		{scopes: []string{"acme:models:llama3:execute"}, ask: "acme:models:llama3:latest:execute", judged: "llama3"},
		{scopes: []string{"acme:models:llama3:execute"}, ask: "acme:models:registry.ollama.ai/library/LLAMA3:execute", judged: "llama3"},
		{scopes: []string{"acme:models:Library/LLaMA3:latest:execute"}, ask: "acme:models:llama3:execute"},
		{scopes: []string{"acme:models:llama3:execute"}, ask: "acme:models:llama3:8b:execute", scope: -1, reason: models.OutOfScope},
		{scopes: []string{"acme:models:*:execute"}, ask: "acme:models:LAB-1:execute", judged: "lab-1"},
		{scopes: []string{"acme:models:llama3:execute"}, ask: "acme:models:*:execute", scope: -1, reason: models.OutOfScope},
		{scopes: []string{"acme:models:LLAMA3:execute", "acme:models:llama3:execute"}, ask: "acme:models:Llama3:execute", judged: "llama3", scope: 1},
		{scopes: []string{"acme:models:LLAMA3:execute", "acme:models:llama3:latest:execute"}, ask: "acme:models:llama3:execute", scope: 0},
		{scopes: []string{"*:models:LLAMA3:latest:execute"}, ask: "acme:models:llama3:execute"},
		{scopes: []string{"*:models:LLAMA3:latest:execute"}, ask: "exact:models:LLAMA3:latest:execute"},
		{scopes: []string{"*:models:LLAMA3:latest:execute"}, ask: "exact:models:llama3:execute", scope: -1, reason: models.OutOfScope},
		{scopes: []string{"exact:models:llama3:execute"}, ask: "exact:models:LLAMA3:execute", scope: -1, reason: models.OutOfScope},
		{scopes: []string{"exact:models:llama3:execute"}, ask: "exact:models:llama3:latest:execute", scope: -1, reason: models.OutOfScope},
		{scopes: []string{"exact:models:LLAMA3:latest:execute"}, kind: "ollama", ask: "exact:models:llama3:execute"},
		{scopes: []string{"acme:models:LLAMA3:execute"}, kind: "vllm", ask: "acme:models:llama3:execute", scope: -1, reason: models.OutOfScope},
		{scopes: []string{"acme:models:LLAMA3:execute"}, kind: "vllm", ask: "acme:models:LLAMA3:execute"},
		{scopes: []string{"acme:datasets:D:read"}, ask: "acme:datasets:d:read", scope: -1, reason: models.OutOfScope},
		{scopes: []string{"acme:models:*:execute"}, ask: "acme:models:lab-1@sha256:0:execute", scope: -1, reason: models.RouteUnmapped},
		{scopes: []string{"*:models:*:execute"}, ask: "lite:models:llama3,secret:execute", scope: -1, reason: models.RouteUnmapped},
		{scopes: []string{"*:models:*:execute"}, ask: "exact:models:llama3,secret:execute"},
	} {
		pat, token := b.mint(t)
		pat.Scopes = nil
		for i, text := range c.scopes {
			s, err := models.ParseScope(text)
			require.NoError(t, err)
			s.ID = string(rune('a' + i))
			pat.Scopes = append(pat.Scopes, s)
		}
		b.world.set(func() { b.world.pats[pat.ID] = pat })
		asked, err := models.ParseScope(c.ask)
		require.NoError(t, err)
		req := models.Request{Domain: asked.Domain, EntityType: asked.EntityType, Entity: asked.Entity, Operation: asked.Operation}
		judged := req
		if c.judged != "" {
			judged.Entity = c.judged
		}
		call := authz.Call{Token: token, Kind: c.kind, Request: req, Surface: "test"}
		for _, d := range append(b.AuthorizeBatch(t.Context(), call, []models.Request{req}), b.Authorize(t.Context(), call)) {
			if c.scope < 0 {
				assert.Equal(t, []models.ReasonCode{c.reason}, codes(d), "%s with %v", c.ask, c.scopes)
				continue
			}
			require.True(t, d.Allowed, "%s with %v: %v", c.ask, c.scopes, d.Reasons)
			assert.Equal(t, pat.Scopes[c.scope].ID, d.ScopeID, "%s with %v", c.ask, c.scopes)
			assert.Equal(t, judged, records.last(t).Request, "what was judged is on record")
		}
	}
	dead, token := b.mint(t)
	at := b.clock.Now()
	dead.RevokedAt = &at
	b.world.set(func() { b.world.pats[dead.ID] = dead })
	d := b.Authorize(t.Context(), authz.Call{Token: token, Request: models.Request{Domain: "acme", EntityType: "models", Entity: "a@b", Operation: "read"}, Surface: "test"})
	assert.Equal(t, []models.ReasonCode{models.TokenRevoked}, codes(d), "a token that is not good learns nothing else")
}

// TestScopesInManyForms asks with one token in domains of different kinds at a time.
func TestScopesInManyForms(t *testing.T) {
	b := newBed(t, func(c *authz.Config) { c.Kinds = models.DomainKinds{"acme": models.UpstreamOllama} })
	b.world.domains["exact"] = models.Domain{ID: "exact", Status: models.DomainEnabled}
	b.world.members[[2]string{"u1", "exact"}] = models.Membership{UserID: "u1", Domain: "exact", Role: "member"}
	pat, token := b.mint(t)
	pat.Scopes = []models.Scope{{ID: "a", Domain: "*", EntityType: "models", Entity: "LLAMA3", Operation: "read"}}
	b.world.set(func() { b.world.pats[pat.ID] = pat })
	b.start(t)
	ask := func(domain, entity string) bool {
		return b.Authorize(t.Context(), authz.Call{Token: token, Request: models.Request{Domain: domain, EntityType: "models", Entity: entity, Operation: "read"}, Surface: "test"}).Allowed
	}
	done := make(chan struct{})
	for range 8 {
		go func() {
			defer func() { done <- struct{}{} }()
			for range 50 {
				assert.True(t, ask("acme", "llama3:latest"))
				assert.True(t, ask("exact", "LLAMA3"))
				assert.False(t, ask("exact", "llama3"))
			}
		}()
	}
	for range 8 {
		<-done
	}
}

func TestKindsAreChecked(t *testing.T) {
	b := newBed(t, nil)
	cfg := authz.Config{Keys: b.world.keys, Policy: b.policy, Facts: b.world, Feed: b.world, Journal: b.world, Kinds: models.DomainKinds{"acme": "ollamma"}}
	assert.ErrorContains(t, cfg.Validate(), "is none of openai, vllm, litellm, ollama")
}
