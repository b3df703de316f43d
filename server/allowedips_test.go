package server_test

import (
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
	"patrol/server"
)

// A token that is limited to addresses works from those alone: as a program and a person
// limit it, asking for others and about itself.
func TestATokenForSomeAddresses(t *testing.T) { testenv.EachDatabase(t, addressStory) }

func addressStory(t *testing.T, dbURL string) {
	w := newWorld(t, dbURL, func(c *server.Config, _ *server.Deps) { c.TrustedProxies = []string{"127.0.0.1"} })
	const here = "acme:models:m:read"
	in := api.NewPAT{Name: "ci", ExpiresIn: "30d", Scopes: []api.NewScope{{Domain: "acme", EntityType: "models", Entity: "*", Operation: "read"}}}
	in.AllowedIPs = []string{"203.0.113.7", "10.1.2.3/8", "fe80::1%eth0", "203.0.113.7/32", "x"}
	refused := w.as("ann").post("/api/v1/pats", in).problem(422, models.CodeInvalid)
	assert.Equal(t, []string{"allowed_ips[1]", "allowed_ips[2]", "allowed_ips[3]", "allowed_ips[4]"}, fieldsOf(refused))
	assert.Contains(t, refused.Errors[0].Message, "10.0.0.0/8")
	in.AllowedIPs = []string{"::ffff:203.0.113.7", "2001:db8::/32"}
	var pat api.PAT
	w.as("ann").post("/api/v1/pats", in).is(201).into(&pat)
	assert.Equal(t, []string{"203.0.113.7", "2001:db8::/32"}, pat.AllowedIPs)
	path := "/api/v1/pats/" + pat.ID

	from := func(token, addr string) *call { return w.with(token).set("X-Forwarded-For", addr) }
	ask := func(token, addr string) (d api.Decision) {
		from(token, addr).post("/authorize", "{"+readModels+"}").is(200).into(&d)
		return d
	}
	assert.True(t, ask(pat.Token, "203.0.113.7").Allowed)
	assert.True(t, ask(pat.Token, "2001:db8::1").Allowed, "the answer is not for the token alone")
	d := ask(pat.Token, "203.0.114.7")
	require.Len(t, d.Reasons, 1)
	assert.Equal(t, models.IPForbidden, d.Reasons[0].Code)
	assert.Equal(t, 403, d.Status)
	assert.Equal(t, models.IPForbidden, w.refusal(pat.Token, here), "from 127.0.0.1")
	assert.True(t, ask(pat.Token, "203.0.113.7").Allowed)

	from(pat.Token, "203.0.113.7").get("/api/v1/pats/self").is(200)
	from(pat.Token, "203.0.114.7").get("/api/v1/pats/self").problem(403, models.CodeIPForbidden)
	from(pat.Token, "203.0.114.7").delete("/api/v1/pats/self").problem(403, models.CodeIPForbidden)
	from(pat.Token, "203.0.114.7").get("/api/v1/pats").problem(403, models.CodeIPForbidden)
	from(pat.Token, "203.0.113.7").get("/api/v1/pats").problem(403, models.CodeSessionRequired)

	noted := func() (events []store.AuditEvent) {
		w.server.WaitForNotes()
		events, _, err := w.store.AuditEvents(t.Context(), store.AuditFilter{Action: "pat.ip_forbidden"}, store.Page{Limit: 10})
		require.NoError(t, err)
		return events
	}
	require.Eventually(t, func() bool { return len(noted()) > 0 }, 10*time.Second, 10*time.Millisecond)
	require.Len(t, noted(), 1, "once an hour, however many there are")
	assert.Equal(t, map[string]string{"user_id": w.users["ann"].ID, "ip": "203.0.114.7"}, noted()[0].Detail)
	assert.Equal(t, "pat:"+pat.ID, noted()[0].Subject)
	assert.Contains(t, w.visit("ann").get("/profile/pats/"+pat.ID).is(200).text, "203.0.114.7", "its owner is told")

	var next api.PAT
	w.as("ann").post(path+"/rotate", api.Rotation{ExpiresIn: "1h"}).is(200).into(&next)
	secret := next.Token
	assert.Equal(t, pat.AllowedIPs, next.AllowedIPs)
	assert.False(t, ask(next.Token, "203.0.114.7").Allowed)
	path = "/api/v1/pats/" + next.ID
	set := func(to ...string) *answer {
		to = append([]string{}, to...)
		return w.as("ann").send("PATCH", path, api.PATPatch{AllowedIPs: &to})
	}
	set("10.1.2.3/8").problem(422, models.CodeInvalid)
	set(slices.Repeat([]string{"203.0.113.7"}, 33)...).problem(422, models.CodeInvalid)
	set("203.0.114.0/24").is(200).into(&next)
	assert.Equal(t, []string{"203.0.114.0/24"}, next.AllowedIPs)

	ann := w.visit("ann")
	assert.Contains(t, ann.get("/profile/pats/"+next.ID).is(200).text, "203.0.114.0/24")
	edit := "/profile/pats/" + next.ID + "/edit"
	assert.Contains(t, ann.get(edit).is(200).text, "203.0.114.0/24")
	wrong := ann.post(edit, url.Values{"name": {"ci"}, "description": {""}, "allowed_ips": {"203.0.113.7\r\n10.1.2.3/8"}}).is(422)
	assert.Contains(t, wrong.text, "Line 2 of the addresses")
	ann.post(edit, url.Values{"name": {"ci"}, "description": {""}, "allowed_ips": {" 203.0.114.7 \r\n\r\n203.0.114.8"}}).is(303)
	w.as("ann").get(path).is(200).into(&next)
	assert.Equal(t, []string{"203.0.114.7", "203.0.114.8"}, next.AllowedIPs)
	var list struct{ Items []api.DomainPAT }
	w.as("dom").get("/api/v1/domains/acme/pats?status=active").is(200).into(&list)
	assert.Equal(t, next.AllowedIPs, list.Items[0].AllowedIPs)
	set().is(200).into(&next)
	assert.Empty(t, next.AllowedIPs)
	assert.Empty(t, w.refusal(secret, here))
}

func fieldsOf(p api.Problem) (fields []string) {
	for _, e := range p.Errors {
		fields = append(fields, e.Field)
	}
	return fields
}
