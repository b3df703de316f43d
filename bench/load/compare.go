package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"patrol/api"
	"patrol/bench"
	"patrol/policies/engine"
	"patrol/server/authz"
)

// server is one of the three, with what is sent to it.
type server struct {
	*process
	payloads []payload
	want     []byte // in every answer
}

// compare sets up, measures in rounds and reports.
func compare(ctx context.Context, o options, out io.Writer) (failed bool, err error) {
	dir, err := os.MkdirTemp("", "patrol-bench-")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	w, err := bench.NewWorld(o.tokens, time.Now())
	if err != nil {
		return false, err
	}
	url := "sqlite://" + filepath.Join(dir, "patrol.db")
	store, err := bench.OpenStore(ctx, url, w)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	policy, err := bench.LoadPolicy(ctx)
	if err != nil {
		return false, err
	}
	authorizer, err := bench.NewAuthorizer(w, store, policy)
	if err != nil {
		return false, err
	}
	stop, err := bench.StartCaching(ctx, authorizer)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, stop()) }()

	servers, err := startAll(ctx, o, w, dir, url)
	defer func() {
		for _, s := range servers {
			err = errors.Join(err, s.stop())
		}
	}()
	if err != nil {
		return false, err
	}

	fmt.Fprintf(out, "POST /authorize: %d tokens of 10 scopes, %d connections, %d rounds of %d requests\n",
		o.tokens, o.connections, o.rounds, o.requests)
	var r results
	for _, s := range servers { // caches and the runtime warm up
		if _, err := fire(ctx, s.addr, s.payloads, s.want, max(2*o.tokens, o.requests/4), o.connections); err != nil {
			return false, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	warm := bench.Authorize(ctx, authorizer, w)
	for range o.tokens {
		if err := warm(); err != nil {
			return false, err
		}
	}
	for range o.rounds {
		if err := r.addBare(ctx, w, policy, authorizer); err != nil {
			return false, err
		}
		for _, s := range servers {
			before, err := s.cpu()
			if err != nil {
				return false, err
			}
			got, err := fire(ctx, s.addr, s.payloads, s.want, o.requests, o.connections)
			if err != nil {
				return false, fmt.Errorf("%s: %w", s.name, err)
			}
			after, err := s.cpu()
			if err != nil {
				return false, err
			}
			r.add(s.name, got, (after-before)/time.Duration(o.requests))
		}
	}
	return r.report(out), nil
}

// perSample is how long each operation of this process is measured in a round.
const perSample = 300 * time.Millisecond

// addBare measures what needs no server.
func (r *results) addBare(ctx context.Context, w *bench.World, policy *engine.Snapshot, a *authz.Authorizer) error {
	for _, c := range w.Cases() {
		got, err := bench.Measure(bench.Evaluate(ctx, policy, c), perSample)
		if err != nil {
			return fmt.Errorf("evaluate: %w", err)
		}
		r.addCase(c, got)
	}
	got, err := bench.Measure(bench.Authorize(ctx, a, w), perSample)
	if err != nil {
		return fmt.Errorf("authorize: %w", err)
	}
	r.authorize = append(r.authorize, got)
	return nil
}

// startAll starts the three servers. Those it started are returned with an
// error, too.
func startAll(ctx context.Context, o options, w *bench.World, dir, url string) (servers []server, err error) {
	patrol := exec.CommandContext(ctx, o.patrol, "serve")
	patrol.Env = append(os.Environ(), "PATROL_LISTEN=127.0.0.1:0", "PATROL_DATA_DIR="+dir, "PATROL_DATABASE_URL="+url, "PATROL_TOKEN_KEYS="+w.KeysText,
		"PATROL_DECISION_LOG_DATABASE=false") // what that costs is measured on its own
	p, err := start(ctx, "patrol", patrol, "", listening)
	if err != nil {
		return nil, err
	}
	var requests, inputs []payload
	for _, h := range w.Holders {
		requests = append(requests, post(p.addr, "/authorize", authorizeBody(h)))
	}
	want := []byte(`"allowed":true`)
	servers = append(servers, server{p, requests, want})

	size, err := answerSize(ctx, p.addr, w.Holders[0])
	if err != nil {
		return servers, err
	}
	self, err := os.Executable()
	if err != nil {
		return servers, err
	}
	constant, err := start(ctx, "constant", exec.CommandContext(ctx, self, "-constant", fmt.Sprint(size)), "", strings.TrimSpace)
	if err != nil {
		return servers, err
	}
	servers = append(servers, server{constant, requests, want})

	addr, err := freeAddr(ctx)
	if err != nil {
		return servers, err
	}
	cmd := exec.CommandContext(ctx, o.opa, "run", "--server", "--log-level", "error", "--disable-telemetry", "--addr", addr, "--bundle", o.policies)
	opa, err := start(ctx, "opa", cmd, addr, nil)
	if err != nil {
		return servers, err
	}
	for _, h := range w.Holders {
		body, err := json.Marshal(map[string]any{"input": input(w, h)})
		if err != nil {
			return servers, err
		}
		inputs = append(inputs, post(addr, "/v1/data/patrol/authz/decision", body))
	}
	return append(servers, server{opa, inputs, []byte(`"allow":true`)}), nil
}

// listening finds the address in the program's log.
func listening(line string) string {
	var entry struct{ Msg, HTTP string }
	if json.Unmarshal([]byte(line), &entry) != nil || entry.Msg != "listening" {
		return ""
	}
	return strings.TrimPrefix(entry.HTTP, "http://")
}

func authorizeBody(h bench.Holder) []byte {
	req, token := bench.Request(), h.Token.Reveal()
	body, err := json.Marshal(api.AuthorizeRequest{
		Token: &token, Domain: req.Domain, EntityType: req.EntityType, Entity: req.Entity, Operation: req.Operation,
	})
	if err != nil {
		panic(err) // a struct of strings
	}
	return body
}

// answerSize asks once and returns the length of the answer.
func answerSize(ctx context.Context, addr string, h bench.Holder) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/authorize", strings.NewReader(string(authorizeBody(h))))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("authorize answers %d: %s", resp.StatusCode, body)
	}
	return len(body), err
}

// input is what the policy judges, as section "The input" of policies/README.md
// describes it.
func input(w *bench.World, h bench.Holder) map[string]any {
	req := bench.Request()
	scopes := map[string]map[string]map[string]map[string]string{}
	for _, s := range h.PAT.Scopes {
		types := child(scopes, s.Domain)
		operations := child(types, s.EntityType)
		child(operations, s.Operation)[s.Entity] = s.ID
	}
	return map[string]any{
		"request": map[string]any{"domain": req.Domain, "entity_type": req.EntityType, "entity": req.Entity, "operation": req.Operation, "context": map[string]any{}},
		"token": map[string]any{
			"id": h.PAT.ID, "name": h.PAT.Name, "revoked": false,
			"created_at": h.PAT.CreatedAt.Unix(), "expires_at": h.PAT.ExpiresAt.Unix(), "scopes": scopes,
		},
		"user":       map[string]any{"id": h.User.ID, "email": h.User.Email, "admin": false, "disabled": false},
		"domain":     map[string]any{"id": w.Domain.ID, "status": w.Domain.Status},
		"membership": map[string]any{"role": h.Membership.Role},
		"now":        time.Now().Unix(),
	}
}

// child returns the map under key, making it if need be.
func child[M ~map[string]V, V ~map[string]E, E any](m M, key string) V {
	if m[key] == nil {
		m[key] = V{}
	}
	return m[key]
}
