package server_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
	"patrol/server/manage"
)

// A domain's admin has no power over what a platform admin's token does elsewhere, and sees
// nothing of it.
func TestADomainAdminAgainstAPlatformAdminsToken(t *testing.T) {
	testenv.EachDatabase(t, withdrawalStory)
}

func withdrawalStory(t *testing.T, dbURL string) {
	w := newWorld(t, dbURL, nil)
	token := w.pat("root", "rounds", "*:models:*:write", "beta:datasets:*:read")
	ordinary := w.pat("ann", "ci", "acme:models:*:read")
	const there, here = "beta:models:m:write", "acme:models:m:write"
	assert.Empty(t, w.refusal(token.Token, here))

	path := "/api/v1/domains/acme/pats/" + token.ID
	w.as("dom").post(path+"/revoke", api.Revocation{Reason: "mine"}).problem(403, models.CodeForbidden)
	w.as("dom").post(path+"/revoke?wait=all", api.Revocation{Reason: "mine"}).problem(403, models.CodeForbidden)
	dom := w.visit("dom")
	dom.post("/admin/domains/acme/pats/"+token.ID+"/revoke", url.Values{"reason": {"mine"}}).is(403)
	assert.Empty(t, w.refusal(token.Token, here), "nothing gained")

	var seen api.DomainPAT
	w.as("dom").get(path).is(200).into(&seen)
	assert.Nil(t, seen.LastUsedAt, "it was used in another domain, for all they know")
	for _, sc := range seen.Scopes {
		assert.NotEqual(t, "beta", sc.Domain)
	}

	w.as("ann").send("PUT", path+"/withdrawal", api.Withdraw{Reason: "why"}).problem(403, models.CodeForbidden)
	w.as("dom").send("PUT", path+"/withdrawal", api.Withdraw{}).problem(422, models.CodeInvalid)
	w.as("dom").send("PUT", "/api/v1/domains/acme/pats/"+ordinary.ID+"/withdrawal", api.Withdraw{Reason: "why"}).problem(409, models.CodeConflict)
	w.as("dom").send("PUT", "/api/v1/domains/beta/pats/"+token.ID+"/withdrawal", api.Withdraw{Reason: "why"}).problem(404, models.CodeNotFound)
	w.as("dom").send("PUT", path+"/withdrawal", api.Withdraw{Reason: "why"}).is(200).into(&seen)
	require.NotNil(t, seen.WithdrawnAt)
	assert.Equal(t, "why", *seen.WithdrawnReason)
	assert.Equal(t, models.Withdrawn, w.refusal(token.Token, here))
	assert.Empty(t, w.refusal(token.Token, there), "it works elsewhere")
	assert.Equal(t, 403, w.ask(token.Token, here).Status)

	var own api.PAT
	w.as("root").get("/api/v1/pats/" + token.ID).is(200).into(&own)
	require.Len(t, own.Withdrawals, 1)
	assert.Equal(t, "why", own.Withdrawals[0].Reason)
	root := w.visit("root")
	page := root.get("/profile/pats/" + token.ID).is(200)
	assert.Contains(t, page.text, "Take the withdrawal back")

	var next api.PAT
	w.as("root").post("/api/v1/pats/"+token.ID+"/rotate", api.Rotation{ExpiresIn: "1h"}).is(200).into(&next)
	assert.Equal(t, models.Withdrawn, w.refusal(next.Token, here), "a rotation keeps it")

	path = "/api/v1/domains/acme/pats/" + next.ID + "/withdrawal"
	w.as("ann").delete(path).problem(403, models.CodeForbidden)
	w.as("dom").delete(path).is(204)
	assert.Empty(t, w.refusal(next.Token, here))
	w.as("dom").delete(path).is(204)

	form := "/admin/domains/acme/pats/" + next.ID
	dom.post(form+"/withdrawal", url.Values{"reason": {""}}).is(422)
	dom.post(form+"/withdrawal", url.Values{"reason": {"again"}}).is(http.StatusSeeOther)
	assert.Equal(t, models.Withdrawn, w.refusal(next.Token, here))
	assert.Contains(t, dom.get(form).is(200).text, "again")
	root.post(form+"/admit", url.Values{}).is(http.StatusSeeOther) // by the other side
	assert.Empty(t, w.refusal(next.Token, here))

	refused, _, err := w.store.AuditEvents(t.Context(), store.AuditFilter{Action: "pat.revoke_refused"}, store.Page{Limit: manage.MaxPage})
	require.NoError(t, err)
	require.Len(t, refused, 1, "the attempts are known, once a minute")
	assert.Equal(t, "pat:"+token.ID, refused[0].Subject)
	assert.Equal(t, w.users["dom"].ID, refused[0].Actor.UserID)
	events, _, err := w.store.AuditEvents(t.Context(), store.AuditFilter{Action: "pat.withdraw"}, store.Page{Limit: manage.MaxPage})
	require.NoError(t, err)
	require.Len(t, events, 2)
	assert.Equal(t, "acme", events[0].Detail["domain"])
	assert.Equal(t, w.users["dom"].ID, events[0].Actor.UserID)
}
