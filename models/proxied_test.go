package models_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"

	"patrol/models"
)

func TestNames(t *testing.T) {
	n := models.NewNames([]string{"api_base", "*model*", "lora*", "*_host", "!sec-ch-ua-model", "task", "-"})
	for name, has := range map[string]bool{
		"api_base": true, "apiBase": true, "API-Base": true, "api_base[0]": true, "api_base.x": true, "api_base\x00x": true, "api_bases": false,
		"model": true, "X-Model": true, "modelId": true, "the_model_name": true, "mo-del": true, "modal": false,
		"lora_path": true, "LoRA": true, "x_lora": false,
		"remote_host": true, "Host": true, "host_port": false,
		"Sec-CH-UA-Model": false, "sec_ch_ua_model": false, "Sec-CH-UA-Model-Name": true,
		"ta\u017fk": true, "tas\u212a": true, "task ": true, "tasks": false,
		"": false, "-": false, "метка": false,
	} {
		assert.Equal(t, has, n.Has(name), "%q", name)
	}
	var none *models.Names
	assert.False(t, none.Has("model"))
	assert.Zero(t, testing.AllocsPerRun(100, func() { n.Has("X-Stainless-Package-Version") }))
}

func TestBodyNeedNames(t *testing.T) {
	need := (&models.BodyNeed{
		Format: models.BodyJSON, Fields: []string{"model"}, Each: []string{"models", "tools[].model"}, Absent: []string{"api_base", "plugins[].*model*", "tools[].parameters.*model*"},
	}).Compiled()
	assert.Same(t, need, need.Compiled())
	for name, want := range map[string][2]bool{ // refused, confused
		"model": {false, true}, "Model": {false, true}, "models[]": {false, true}, "Tools": {false, true}, "PLUGINS": {false, true},
		"api-base": {true, false}, "prompt": {false, false}, "toolsmodel": {false, false},
	} {
		assert.Equal(t, want, [2]bool{need.Refuses(name), need.Confuses(name)}, name)
		assert.Equal(t, want[0] || want[1], need.Looks(name), name)
	}
	assert.Equal(t, "tools", need.Confused("Tools"))
	assert.True(t, need.List("models").Whole)
	assert.Equal(t, map[string]string{"model": "tools[].model"}, need.List("tools").Members)
	assert.True(t, need.List("plugins").Refuses("analysis_models"))
	assert.False(t, need.List("plugins").RefusesIn("parameters", ""))
	tools := need.List("tools")
	assert.True(t, tools.RefusesIn("parameters", "") && tools.RefusesIn("Parameters", "analysis_models"))
	assert.False(t, tools.RefusesIn("parameters", "properties") || tools.RefusesIn("function", "model") || tools.Refuses("parameters"))
	assert.Nil(t, need.List("model"))
	var none *models.BodyNeed
	assert.False(t, none.Looks("model"))
}

func TestTogether(t *testing.T) {
	reason := func(code models.ReasonCode) models.Reason { return models.Because(code) }
	deny := func(id string, codes ...models.ReasonCode) models.Decision {
		d := models.Decision{ID: id}
		for _, code := range codes {
			d.Reasons = append(d.Reasons, reason(code))
		}
		return d
	}
	allow := models.Decision{ID: "a", Allowed: true, ScopeID: "s", Headers: map[string]string{"X-Patrol-A": "1"}}
	other := models.Decision{ID: "b", Allowed: true, ScopeID: "s2", Headers: map[string]string{"X-Patrol-B": "2"}}
	for name, c := range map[string]struct {
		of     []models.Decision
		id     string
		which  int
		status int
		codes  []models.ReasonCode
	}{
		"one":                       {of: []models.Decision{allow}, id: "a", status: http.StatusOK},
		"all":                       {of: []models.Decision{allow, other}, id: "a", status: http.StatusOK},
		"the second is denied":      {of: []models.Decision{allow, deny("c", "out_of_scope")}, id: "c", which: 1, status: http.StatusForbidden, codes: []models.ReasonCode{"out_of_scope"}},
		"two are, for the same too": {of: []models.Decision{deny("c", "out_of_scope", "role_forbids"), deny("d", "not_a_member", "out_of_scope")}, id: "c", status: http.StatusForbidden, codes: []models.ReasonCode{"not_a_member", "out_of_scope", "role_forbids"}},
		"401 hides 403":             {of: []models.Decision{deny("c", "out_of_scope"), deny("d", "token_expired")}, id: "c", status: http.StatusUnauthorized, codes: []models.ReasonCode{"token_expired"}},
		"503 counts most":           {of: []models.Decision{deny("c", "out_of_scope"), allow, deny("d", "policy_error")}, id: "c", status: http.StatusServiceUnavailable, codes: []models.ReasonCode{"out_of_scope", "policy_error"}},
	} {
		t.Run(name, func(t *testing.T) {
			d, which := models.Together(c.of)
			assert.Equal(t, c.id, d.ID)
			assert.Equal(t, c.which, which)
			assert.Equal(t, c.status, d.Status())
			var codes []models.ReasonCode
			for _, r := range d.Reasons {
				codes = append(codes, r.Code)
			}
			assert.Equal(t, c.codes, codes)
		})
	}
	d, _ := models.Together([]models.Decision{allow, other})
	assert.Equal(t, map[string]string{"X-Patrol-A": "1", "X-Patrol-B": "2"}, d.Headers)
	assert.Equal(t, map[string]string{"X-Patrol-A": "1"}, allow.Headers, "what was given stays as it is")
}
