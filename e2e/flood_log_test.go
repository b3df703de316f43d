package e2e_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/models/store"
)

// logSettings are of a server whose allowances wait until they are on record, and
// whose decision log is small.
var logSettings = []string{
	"PATROL_DECISIONS_REQUIRED=true", "PATROL_DECISION_LOG_MAX_ROWS=20000", "PATROL_DECISION_LOG_BUFFER=8MiB",
}

// noiseSeen are the ids of decisions that a flood was answered with, a few of many.
type noiseSeen struct {
	mu  sync.Mutex
	ids []string
	all int
}

func (n *noiseSeen) add(answer []byte) {
	var batch struct {
		Decisions []struct {
			ID string `json:"decision_id"`
		} `json:"decisions"`
	}
	if json.Unmarshal(answer, &batch) != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all += len(batch.Decisions)
	if len(n.ids) < 2000 {
		for _, d := range batch.Decisions {
			n.ids = append(n.ids, d.ID)
		}
	}
}

const (
	noiseItem    = `{"domain":"acme","entity_type":"models","entity":"llama3","operation":"read"}`
	noiseWorkers = 32
)

// noiseBatch is the body of a batch of a hundred.
var noiseBatch = `{"requests":[` + strings.Repeat(noiseItem+",", 99) + noiseItem + `]}`

// floodEverySurface asks without a token, with what is none and with tokens that
// nobody was given, wherever decisions are made.
func floodEverySurface(ctx context.Context, b *floodBench) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: noiseWorkers}, Timeout: patience}
	defer client.CloseIdleConnections()
	tokens := []string{"", "Bearer nonsense", "Bearer " + unknownToken()}
	send := func(ctx context.Context, method, path, header, body string) {
		req, err := http.NewRequestWithContext(ctx, method, "http://"+b.running.http+path, strings.NewReader(body))
		if err != nil {
			panic(err) // the request is ours
		}
		if header != "" {
			req.Header.Set("Authorization", header)
		}
		res, err := client.Do(req)
		if err != nil {
			return
		}
		defer func() { _ = res.Body.Close() }()
		if answer, err := io.ReadAll(res.Body); err == nil && path == "/authorize/batch" {
			b.seen.add(answer)
		}
	}
	crowd(ctx, noiseWorkers, func(ctx context.Context, worker int) {
		header := tokens[worker/5%len(tokens)]
		switch worker % 5 {
		case 0, 1:
			send(ctx, http.MethodPost, "/authorize/batch", header, noiseBatch)
		case 2:
			send(ctx, http.MethodPost, "/authorize", header, noiseItem)
		case 3:
			send(ctx, http.MethodGet, "/proxy/acme/v1/models", header, "")
			send(ctx, http.MethodGet, "/forward-auth/proxy/acme/v1/models", header, "")
		case 4:
			_, _ = b.check.Check(ctx, checkRequest(http.MethodGet, "/proxy/acme/v1/models", []string{"Authorization: " + header}, ""))
		}
	})
}

func unknownToken() string {
	token, err := models.Mint(strings.NewReader(strings.Repeat("of a stranger ", 1000)))
	if err != nil {
		panic(err) // there are enough letters
	}
	return token.Reveal()
}

// checkNoiseIsCounted looks at what is left of a flood without a token: nearly all of
// it is counted and not kept, and each decision's id says so.
func checkNoiseIsCounted(t *testing.T, b *floodBench) {
	require.NotEmpty(t, b.seen.ids)
	kept := 0
	for _, id := range b.seen.ids {
		d, err := b.decisions.Decision(t.Context(), id)
		require.NoError(t, err)
		if d != nil {
			kept++
			continue
		}
		missing, err := b.decisions.Missing(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, models.MissingCounted, missing.Kind, "%s: %s", id, missing.Message())
	}
	assert.LessOrEqual(t, kept, 10, "samples of an address in two minutes or so")
	counted := func() (decisions, calls int64) {
		list, _, err := b.decisions.Refusals(t.Context(), store.RefusalFilter{}, store.Page{Limit: 200})
		require.NoError(t, err)
		for _, r := range list {
			assert.Contains(t, []string{"127.0.0.1", ""}, r.Address, "an address, or none of a proxy that names none")
			decisions, calls = decisions+r.Decisions, calls+r.Calls
		}
		return decisions, calls
	}
	require.Eventually(t, func() bool { decisions, _ := counted(); return decisions >= int64(b.seen.all) }, patience, 100*time.Millisecond, "the noise is counted")
	decisions, calls := counted()
	t.Logf("noise: %d answers to %d calls were counted, %d of %d looked at are kept", decisions, calls, kept, len(b.seen.ids))
	refused := 0
	require.NoError(t, b.decisions.Each(t.Context(), store.DecisionFilter{Outcome: models.OutcomeDeny}, func(l models.LoggedDecision) error {
		if l.TokenID == "" {
			refused++
		}
		return nil
	}))
	assert.LessOrEqual(t, refused, 4*60, "rows of noise, in four minutes")
}

// floodWithAToken has the holder of a valid token ask for what it may not have, a
// hundred times in a call.
func floodWithAToken(ctx context.Context, b *floodBench) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: noiseWorkers}, Timeout: patience}
	defer client.CloseIdleConnections()
	body := strings.ReplaceAll(noiseBatch, `"read"`, `"write"`)
	crowd(ctx, 2, func(ctx context.Context, _ int) { // as many as keep the log busier than the processors
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+b.running.http+"/authorize/batch", strings.NewReader(body))
		if err != nil {
			panic(err) // the request is ours
		}
		req.Header.Set("Authorization", "Bearer "+b.tokens["reader"])
		if res, err := client.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
	})
}
