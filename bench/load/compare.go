package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"patrol/api"
	"patrol/bench"
	"patrol/bench/frozen"
	"patrol/internal/heap"
	"patrol/policies/engine"
	"patrol/server/authz"
)

// server is one of those that are compared, with what is sent to it. A process may be
// several of them.
type server struct {
	*process
	as       string
	payloads []payload
	want     []byte // in every answer
}

// The names of the servers in the report.
const (
	patrolLogging = "patrol"
	patrolSilent  = "patrol, no decision log"
	constantName  = "constant handler"
	opaMinimal    = "OPA REST, minimal policy"
	opaSame       = "OPA REST, same policy"
	gatewayGet    = "gateway, GET"
	gatewayPost   = "gateway, POST 2 KiB"
	reverseGet    = "ReverseProxy, GET"
	reversePost   = "ReverseProxy, POST 2 KiB"
)

// headroom is the default of memory.headroom.
const headroom = 32 << 20

// compare sets up, measures in rounds and reports.
func compare(ctx context.Context, o options, out io.Writer) (failed bool, err error) {
	dir, err := os.MkdirTemp("", "patrol-bench-")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	w, url, store, err := bench.OpenWorld(ctx, dir, o.tokens)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	defer heap.Headroom(headroom)() // what is measured in this process has the garbage collector of a server
	policy, activation, err := bench.Activate(ctx)
	if err != nil {
		return false, err
	}
	memory, err := bench.PolicyMemory(ctx)
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

	before, err := frozen.Load(ctx)
	if err != nil {
		return false, err
	}

	c := &cast{options: o, world: w, dir: dir, url: url}
	defer func() { err = errors.Join(err, c.stop()) }()
	if err := c.startAll(ctx); err != nil {
		return false, err
	}
	servers := c.servers
	if o.only != "" {
		only, err := regexp.Compile(o.only)
		if err != nil {
			return false, err
		}
		servers = slices.DeleteFunc(servers, func(s server) bool { return !only.MatchString(s.as) })
	}

	fmt.Fprintf(out, "POST /authorize: %d tokens of 10 scopes, %d connections, %d rounds of %d requests\n",
		o.tokens, o.connections, o.rounds, o.requests)
	r := results{activation: activation, memory: memory}
	for _, s := range servers { // caches and the runtime warm up
		if _, err := fire(ctx, s.addr, s.payloads, s.want, max(2*o.tokens, o.requests/4), o.connections); err != nil {
			return false, fmt.Errorf("%s: %w", s.as, err)
		}
	}
	warm := bench.Authorize(ctx, authorizer, w)
	for range o.tokens {
		if err := warm(); err != nil {
			return false, err
		}
	}
	for range o.rounds {
		if o.only == "" {
			if err := r.addBare(ctx, w, policy, before, authorizer); err != nil {
				return false, err
			}
		}
		for _, s := range servers {
			before, err := s.cpu()
			if err != nil {
				return false, err
			}
			got, err := fire(ctx, s.addr, s.payloads, s.want, o.requests, o.connections)
			if err != nil {
				return false, fmt.Errorf("%s: %w", s.as, err)
			}
			after, err := s.cpu()
			if err != nil {
				return false, err
			}
			r.add(s.as, got, (after-before)/time.Duration(o.requests))
			if s.as == patrolLogging {
				resident, err := s.resident()
				if err != nil {
					return false, err
				}
				r.resident = max(r.resident, resident)
			}
		}
	}
	if o.only != "" {
		r.table(out)
		return false, nil
	}
	failed = r.report(out)
	if o.write != "" {
		err = r.write(o)
	}
	return failed, err
}

// perSample is the time for which each operation of this process is measured in a round.
const perSample = 300 * time.Millisecond

// addBare measures what needs no server.
func (r *results) addBare(ctx context.Context, w *bench.World, policy *engine.Snapshot, before *frozen.Snapshot, a *authz.Authorizer) error {
	cases := w.Cases()
	for _, c := range cases {
		got, err := bench.Measure(bench.Evaluate(ctx, policy, c), perSample)
		if err != nil {
			return fmt.Errorf("evaluate: %w", err)
		}
		was, err := bench.Measure(bench.EvaluateBefore(ctx, before, c), perSample)
		if err != nil {
			return fmt.Errorf("evaluate as before: %w", err)
		}
		r.addCase(c, got, was)
	}
	for _, many := range []struct {
		op bench.Op
		to *[]bench.Sample
	}{{bench.Models(ctx, policy, cases[0]), &r.models}, {bench.Users(ctx, policy, cases[0], 10_000), &r.users}} {
		got, err := bench.Measure(many.op, perSample)
		if err != nil {
			return fmt.Errorf("evaluate many: %w", err)
		}
		*many.to = append(*many.to, got)
	}
	got, err := bench.Measure(bench.Authorize(ctx, a, w), perSample)
	if err != nil {
		return fmt.Errorf("authorize: %w", err)
	}
	r.authorize = append(r.authorize, got)
	return nil
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

// input is the policy's input, as section "The input" of policies/README.md
// describes it.
func input(w *bench.World, h bench.Holder) map[string]any {
	req := bench.Request()
	return map[string]any{
		"request": map[string]any{"domain": req.Domain, "entity_type": req.EntityType, "entity": req.Entity, "operation": req.Operation, "context": map[string]any{}},
		"token": map[string]any{
			"id": h.PAT.ID, "name": h.PAT.Name, "revoked": false,
			"created_at": h.PAT.CreatedAt.Unix(), "expires_at": h.PAT.ExpiresAt.Unix(), "scopes": scopesOf(h),
		},
		"user":       map[string]any{"id": h.User.ID, "email": h.User.Email, "admin": false, "disabled": false},
		"domain":     map[string]any{"id": w.Domain.ID, "status": w.Domain.Status},
		"membership": map[string]any{"role": h.Membership.Role},
		"now":        time.Now().Unix(),
	}
}

// scopesOf are a token's scopes: domain → entity type → operation → entity → id.
func scopesOf(h bench.Holder) any {
	scopes := map[string]map[string]map[string]map[string]string{}
	for _, s := range h.PAT.Scopes {
		types := child(scopes, s.Domain)
		operations := child(types, s.EntityType)
		child(operations, s.Operation)[s.Entity] = s.ID
	}
	return scopes
}

// child returns the map under key, making it if need be.
func child[M ~map[string]V, V ~map[string]E, E any](m M, key string) V {
	if m[key] == nil {
		m[key] = V{}
	}
	return m[key]
}
