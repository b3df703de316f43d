package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/api"
	"patrol/cmd/patrol/config"
	"patrol/models"
	"patrol/server"
	"patrol/server/gateway"
)

func TestTable(t *testing.T) {
	var b bytes.Buffer
	o := output{format: "table", w: &b}
	require.NoError(t, o.printTable([]column{{title: "ID"}, {title: "NAME", shrink: true}}, [][]string{
		{"1", "Zoë"}, {"22", "日本"}, {"333", "a\x1b[2Jb"},
	}))
	assert.Equal(t, "ID   NAME\n1    Zoë\n22   日本\n333  a\uFFFD[2Jb\n", b.String(), "nothing in a cell reaches the terminal's controls")
}

func TestFit(t *testing.T) {
	columns := []column{{title: "ID"}, {title: "NAME", shrink: true}, {title: "SCOPES", shrink: true}}
	for name, tc := range map[string]struct {
		widths []int
		limit  int
		want   []int
	}{
		"it fits":              {[]int{16, 20, 30}, 80, []int{16, 20, 30}},
		"the widest gives":     {[]int{16, 20, 100}, 80, []int{16, 20, 40}},
		"then both":            {[]int{16, 60, 100}, 80, []int{16, 30, 30}},
		"there is a least":     {[]int{16, 60, 100}, 20, []int{16, minCut, minCut}},
		"what is narrow stays": {[]int{16, 4, 100}, 30, []int{16, 4, minCut}},
	} {
		t.Run(name, func(t *testing.T) {
			fit(columns, tc.widths, tc.limit)
			assert.Equal(t, tc.want, tc.widths)
		})
	}
}

func TestReport(t *testing.T) {
	const token = "patrol_6S9mDEJGzHGNXcY5_wPYR67y7pqz7Aoixk4rFvRvQGyAqkSIZ3vUGrN"
	problem := func(status int, detail string) error {
		return &api.Error{Problem: api.Problem{Status: status, Detail: detail}}
	}
	var v models.Invalid
	v.Add("name", "is required")
	v.Add("email", "is not an email address")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tc := range map[string]struct {
		ctx    context.Context
		err    error
		status int
		text   string
	}{
		"done":               {err: nil, status: 0},
		"denied":             {err: errDenied, status: 1},
		"not signed in":      {err: problem(401, "sign in"), status: 1, text: "patrol: sign in\n"},
		"forbidden":          {err: fmt.Errorf("context: %w", problem(403, "no")), status: 1, text: "patrol: context: no\n"},
		"not found":          {err: problem(404, "nothing"), status: 2, text: "patrol: nothing\n"},
		"anything":           {err: errors.New("boom"), status: 2, text: "patrol: boom\n"},
		"fields":             {err: fmt.Errorf("set up: %w", v.Err()), status: 2, text: "patrol: set up: name: is required; email: is not an email address\n"},
		"the caller's fault": {err: models.WrapError(models.CodeTaken, "it is taken", errors.New("UNIQUE")), status: 2, text: "patrol: it is taken\n"},
		"the database's":     {err: models.WrapError(models.CodeUnavailable, "no answer", errors.New("refused")), status: 2, text: "patrol: no answer: refused\n"},
		"a token":            {err: fmt.Errorf("what is %s and patrols_abcdefghijklmnopqrstuvwxyz-_0?", token), status: 2, text: "patrol: what is patrol_6S9mDEJGzHGNXcY5_*** and patrols_***?\n"},
		"interrupted":        {ctx: gone, err: context.Canceled, status: 2, text: "patrol: interrupted\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.ctx == nil {
				tc.ctx = t.Context()
			}
			var b bytes.Buffer
			p := &process{stderr: &b}
			assert.Equal(t, tc.status, p.report(tc.ctx, tc.err))
			assert.Equal(t, tc.text, b.String())
		})
	}
}

// TestDefaultsAgree holds the defaults that the documents tell against those of
// the parts that they are for.
func TestDefaultsAgree(t *testing.T) {
	cfg := config.Default()
	assert.Equal(t, server.DefaultConfig(), withoutNil(serverConfig(cfg)))
	want := gateway.DefaultConfig()
	want.Upstreams = map[string]gateway.Upstream{}
	assert.Equal(t, want, gatewayConfig(cfg))
	assert.Equal(t, models.DefaultLimits(), cfg.Tokens.Limits())
}

func withoutNil(c server.Config) server.Config {
	if len(c.TrustedProxies) == 0 {
		c.TrustedProxies = nil
	}
	return c
}
