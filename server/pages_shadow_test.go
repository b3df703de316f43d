package server_test

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
)

func TestTheShadowOnAPage(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		pol := w.visit("pol")
		p := pol.get("/policy/shadow").is(200)
		assert.Contains(t, p.text, "No policy is judged beside the one in force")
		assert.NotContains(t, p.text, "Promote")

		r := w.shadows("v9")
		w.counted(r.Digest, 40, 2)
		p = pol.get("/policy/shadow").is(200)
		for _, want := range []string{"v9", "/etc/shadow-policy", "<dd>42</dd>", "2 newly denied", "It is secret", "custom/custom.rego:3", `href="/policy/decisions/d1"`, "Promote…"} {
			assert.Contains(t, p.text, want)
		}
		ask := "/policy/shadow/promote?" + url.Values{"revision": {r.Digest}}.Encode()
		w.visit("eve").get(ask).is(403)
		pol.get("/policy/shadow/promote?revision=v8").is(409)
		p = pol.get(ask).is(200)
		assert.Contains(t, p.text, "Put v9 in force?")
		assert.Contains(t, p.text, "Of 42 decisions it would have made 2 otherwise: 2 newly denied, 0 newly allowed.")

		w.visit("eve").post("/policy/shadow/promote", url.Values{"revision": {r.Digest}}).is(403)
		pol.post("/policy/shadow/promote", url.Values{"revision": {"sha256:other"}}).is(409)
		assert.False(t, w.policy.Status().Active.Pinned)
		pol.post("/policy/shadow/promote", url.Values{"revision": {r.Digest}}).leadsTo("/policy")
		assert.Equal(t, "v9", w.policy.Status().Active.Revision)
		p = pol.get("/policy").is(200)
		assert.Contains(t, p.heading(), "Promoted")
		assert.Contains(t, p.text, "pinned until the source holds the very same")
		p = pol.get("/policy/shadow").is(200)
		assert.Contains(t, p.text, "It is the policy in force")
		assert.Contains(t, pol.get("/policy/history").is(200).text, "Promoted")
		events, err := w.store.PolicyEvents(t.Context(), "promote", 1)
		require.NoError(t, err)
		assert.Equal(t, w.users["pol"].ID, events[0].ByUser)
	})
}
