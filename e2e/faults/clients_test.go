package faults_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"patrol/models"
)

// answerWithin bounds the wait for one answer. A server gives up earlier.
const answerWithin = 8 * time.Second

// pace is the interval between the calls of one client.
const pace = 40 * time.Millisecond

// rest is the pause of a writer after a write without an acknowledgement.
const rest = 400 * time.Millisecond

// owner is a person with a domain, tokens, and clients that use them.
type owner struct {
	fleet        *fleet
	id, domain   string
	email        string
	session      string
	made         int // tokens so far, over all histories
	history      *history
	reads, wrote atomic.Int64 // answers and acknowledgements since the last look

	mu      sync.Mutex
	secrets []string // tokens of this history, by number
}

// The statuses of calls without an answer.
const (
	noAnswer = 0
	notSent  = -1 // there was no connection to send it over
)

// call sends one request to a server and decodes the answer. It returns the status.
func (s *server) call(ctx context.Context, method, path, bearer string, in, out any) (status int) {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			panic(err) // of what a test wrote itself
		}
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.addr()+path, &body)
	if err != nil {
		return notSent
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := s.http.Do(req)
	if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "dial" {
		return notSent
	}
	if err != nil {
		return noAnswer
	}
	defer func() { _ = resp.Body.Close() }()
	if out != nil && json.NewDecoder(resp.Body).Decode(out) != nil {
		return noAnswer
	}
	return resp.StatusCode
}

// write sends a write to any server and notes it. It returns whether it was acknowledged.
func (o *owner) write(ctx context.Context, in input, method, path, bearer string, body, out any) bool {
	s := o.fleet.any()
	in.where = s.name
	from := time.Now()
	status := s.call(ctx, method, path, bearer, body, out)
	acknowledged := status >= 200 && status < 300
	if status >= 400 && status < 500 && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout {
		o.fleet.report("%s %s at %s is refused with %d", method, path, s.name, status)
	}
	if status != notSent {
		o.history.wrote(in, from, time.Now(), acknowledged)
	}
	if acknowledged {
		o.wrote.Add(1)
	}
	return acknowledged
}

// newToken makes a token. One whose making was not acknowledged is nobody's concern.
func (o *owner) newToken(ctx context.Context) bool {
	o.mu.Lock()
	number := len(o.secrets)
	o.mu.Unlock()
	if number == maxTokens {
		return false
	}
	o.made++
	var made struct{ Token string }
	from := time.Now()
	s := o.fleet.any()
	status := s.call(ctx, "POST", "/api/v1/pats", o.session, map[string]any{
		"name": fmt.Sprint("token ", o.made), "expires_in": "1d",
		"scopes": []any{map[string]any{"domain": o.domain, "entity_type": "models", "entity": "*", "operation": "execute"}},
	}, &made)
	if status != http.StatusCreated {
		if status >= 400 && status < 500 {
			o.fleet.report("a token is refused with %d at %s", status, s.name)
		}
		return false
	}
	o.history.wrote(input{act: create, token: number, where: s.name}, from, time.Now(), true)
	o.wrote.Add(1)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.secrets = append(o.secrets, made.Token)
	return true
}

func (o *owner) token(number int) (id, secret string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	secret = o.secrets[number]
	return secret[len(models.TokenPrefix):][:models.IDLength], secret
}

func (o *owner) tokens() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.secrets)
}

// set sets the role, which permits what the token is for or does not, or the domain's status.
func (o *owner) set(ctx context.Context, what act, on bool) bool {
	in := input{act: what, on: on}
	switch {
	case what == domain && on:
		return o.write(ctx, in, "PATCH", "/api/v1/domains/"+o.domain, o.fleet.admin, map[string]string{"status": "enabled"}, nil)
	case what == domain:
		return o.write(ctx, in, "PATCH", "/api/v1/domains/"+o.domain, o.fleet.admin, map[string]string{"status": "disabled"}, nil)
	case on:
		return o.write(ctx, in, "PUT", "/api/v1/domains/"+o.domain+"/members/"+o.id, o.fleet.admin, map[string]string{"role": "member"}, nil)
	default:
		return o.write(ctx, in, "PUT", "/api/v1/domains/"+o.domain+"/members/"+o.id, o.fleet.admin, map[string]string{"role": "viewer"}, nil)
	}
}

// ask asks a server about a token and notes the answer.
func (o *owner) ask(ctx context.Context, s *server, number int, full bool) (answered bool) {
	_, secret := o.token(number)
	question := map[string]any{"token": secret, "domain": o.domain, "entity_type": "models", "entity": "*", "operation": "execute"}
	if full {
		question["consistency"] = "full"
	}
	var decision struct {
		Allowed bool
		Status  int
	}
	from := time.Now()
	status := s.call(ctx, "POST", "/authorize", "", question, &decision)
	if status != http.StatusOK || decision.Status >= 500 {
		o.history.refused()
		return false
	}
	o.history.answered(input{act: read, token: number, where: s.name}, from, time.Now(), full, decision.Allowed)
	o.reads.Add(1)
	return true
}

// work runs the writer and the readers of an owner until the context ends.
func (o *owner) work(ctx context.Context, running *sync.WaitGroup) {
	running.Go(func() {
		last := map[act]bool{member: true, domain: true}
		done := map[act]bool{member: true, domain: true} // whether the last one was acknowledged
		for range ticks(ctx, pace) {
			what := []act{member, domain, create, revoke}[rand.IntN(4)]
			switch {
			case !done[member]: // until somebody says that it is so
				what = member
			case !done[domain]:
				what = domain
			case what == member || what == domain:
				last[what] = !last[what]
			}
			var ok bool
			switch n := o.tokens(); {
			case what == member || what == domain:
				ok = o.set(ctx, what, last[what])
				done[what] = ok
			case what == create || n == 0:
				ok = o.newToken(ctx)
			default:
				number := max(0, n-1-rand.IntN(3))
				id, _ := o.token(number)
				ok = o.write(ctx, input{act: revoke, token: number}, "POST", "/api/v1/pats/"+id+"/revoke", o.session, map[string]any{}, nil)
			}
			if !ok { // each write without an answer may still happen, and makes the check harder
				select {
				case <-ctx.Done():
				case <-time.After(rest):
				}
			}
		}
	})
	for _, s := range o.fleet.servers {
		running.Go(func() {
			for range ticks(ctx, pace) {
				if n := o.tokens(); n > 0 {
					o.ask(ctx, s, max(0, n-1-rand.IntN(4)), rand.IntN(2) == 0)
				}
			}
		})
	}
}

// settle brings an owner to rest: what was set is set to what a new history begins with, and
// every server answers about every token.
func (o *owner) settle(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	for _, what := range []act{member, domain} {
		require.Eventually(t, func() bool { return o.set(ctx, what, true) }, patience, pace)
	}
	for number := range o.tokens() {
		for _, s := range o.fleet.servers {
			require.Eventually(t, func() bool { return o.ask(ctx, s, number, true) }, patience, pace)
		}
	}
}

// ticks yields at a pace, until the context ends.
func ticks(ctx context.Context, every time.Duration) func(func(struct{}) bool) {
	return func(yield func(struct{}) bool) {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if !yield(struct{}{}) {
					return
				}
			}
		}
	}
}
