package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
)

// The floods at the doors through which people come in.
var signInFloods = []flood{
	{name: "invented emails over 90 connections", postgres: true, make: floodInventedEmails},
	{name: "300 accounts from one address", make: floodAccounts, check: func(t *testing.T, _ *floodBench) {
		t.Helper()
		assert.NotZero(t, toldToWait.Load(), "one address tried 300 accounts, and was never told to wait")
	}},
	{name: "wrong codes", make: floodCodes},
	{
		name: "answers of a provider that nobody asked for", make: floodCallbacks,
		settings: []string{"PATROL_PUBLIC_URL=http://127.0.0.1:8080", "PATROL_OIDC_ISSUER=http://127.0.0.1:9", "PATROL_OIDC_CLIENT_ID=patrol"},
	},
}

// knocks returns what sends one request after the other over so many connections at a
// time, and tells the status of each answer, 0 for none.
func (b *floodBench) knocks(connections int) (knock func(ctx context.Context, method, path, body string) (status int), done func()) {
	client := &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: connections}}
	return func(ctx context.Context, method, path, body string) int {
		req, err := http.NewRequestWithContext(ctx, method, "http://"+b.running.http+path, strings.NewReader(body))
		if err != nil {
			panic(err) // the request is ours
		}
		if body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		res, err := client.Do(req)
		if err != nil {
			return 0
		}
		defer func() { _ = res.Body.Close() }()
		_, _ = io.Copy(io.Discard, res.Body)
		return res.StatusCode
	}, client.CloseIdleConnections
}

// floodInventedEmails signs in to accounts that do not exist, another one each time.
func floodInventedEmails(ctx context.Context, b *floodBench) {
	knock, done := b.knocks(90)
	defer done()
	var n atomic.Int64
	crowd(ctx, 90, func(ctx context.Context, _ int) {
		knock(ctx, http.MethodPost, "/api/v1/session", fmt.Sprintf(`{"email":"invented-%d@example.com","password":"not the password","transport":"bearer"}`, n.Add(1)))
	})
}

// toldToWait counts the answers to floodAccounts that say so.
var toldToWait atomic.Int64

// floodAccounts tries a few passwords at 300 accounts.
func floodAccounts(ctx context.Context, b *floodBench) {
	knock, done := b.knocks(30)
	defer done()
	var n atomic.Int64
	crowd(ctx, 30, func(ctx context.Context, _ int) {
		body := fmt.Sprintf(`{"email":"account-%d@example.com","password":"not the password","transport":"bearer"}`, n.Add(1)%300)
		if knock(ctx, http.MethodPost, "/api/v1/session", body) == http.StatusTooManyRequests {
			toldToWait.Add(1)
		}
	})
}

// floodCodes tries codes that nobody was given, of each kind.
func floodCodes(ctx context.Context, b *floodBench) {
	knock, done := b.knocks(30)
	defer done()
	var n atomic.Int64
	crowd(ctx, 30, func(ctx context.Context, worker int) {
		code := fmt.Sprintf("AAAAA-AAAAA-AAAAA-%05d", n.Add(1)%100000)
		switch worker % 3 {
		case 0:
			knock(ctx, http.MethodPost, "/api/v1/session", `{"code":"`+code+`","transport":"bearer"}`)
		case 1:
			knock(ctx, http.MethodPost, "/api/v1/password-reset", `{"code":"`+code+`","password":"a flood of other horses"}`)
		default:
			knock(ctx, http.MethodPost, "/setup", `{"code":"`+code+`","email":"a@example.com","name":"A","password":"a flood of other horses"}`)
		}
	})
}

// floodCallbacks calls the address to which the identity provider sends people back,
// as a picture on a page of anybody can make browsers do.
func floodCallbacks(ctx context.Context, b *floodBench) {
	knock, done := b.knocks(30)
	defer done()
	crowd(ctx, 30, func(ctx context.Context, worker int) {
		knock(ctx, http.MethodGet, []string{
			"/login/oidc/callback", "/login/oidc/callback?state=x&code=y", "/login/oidc/callback?error=access_denied&state=x",
		}[worker%3], "")
	})
}
