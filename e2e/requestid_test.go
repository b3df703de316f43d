package e2e_test

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/server/authz"
	"patrol/server/forwardauth"
	"patrol/server/request"
)

// taken takes down what is recorded.
type taken struct {
	mu      sync.Mutex
	records []authz.Record
}

func (r *taken) Record(_ context.Context, rec authz.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, rec)
	return nil
}

func (r *taken) take() []authz.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	records := r.records
	r.records = nil
	return records
}

// TestOneRequestHasOneID: a request that asks several questions has a record of each, all
// under its id, which its answer has as well.
func TestOneRequestHasOneID(t *testing.T) {
	rec := &taken{}
	p := openPatrol(t, testenv.SQLite(t), newUpstream(t).url, options{recorder: rec})
	token, _ := p.mint(t, "root", "copies", "acme:models:llama3:read")
	conn, err := grpc.NewClient(p.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	envoy := authv3.NewAuthorizationClient(conn)

	const (
		target = "/proxy/acme/api/copy"
		body   = `{"source":"llama3","destination":"mine"}`
		batch  = `{"requests":[{"domain":"acme","entity_type":"models","entity":"llama3","operation":"read"},{"domain":"acme","entity_type":"models","entity":"mine","operation":"write"}]}`
	)
	for surface, ask := range map[string]func(lines []string) (told string){
		"gateway": func(lines []string) string {
			return exchange(t, p.http, http.MethodPost, target, lines, body).header.Get("X-Request-Id")
		},
		"extauthz": func(lines []string) string {
			res, err := envoy.Check(t.Context(), checkRequest(http.MethodPost, target, lines, body))
			require.NoError(t, err)
			require.NotNil(t, res.GetDeniedResponse())
			return problemOf(t, res.GetDeniedResponse().GetBody()).RequestID
		},
		"forwardauth": func(lines []string) string {
			return exchange(t, p.forward[forwardauth.Envoy], http.MethodPost, "/forward-auth"+target, append(lines, "X-Envoy-Auth-Partial-Body: false"), body).header.Get("X-Request-Id")
		},
		"authorize": func(lines []string) string {
			return exchange(t, p.http, http.MethodPost, "/authorize/batch", lines, batch).header.Get("X-Request-Id")
		},
	} {
		for name, sent := range map[string]string{"the client's": "0191f3c2-6a7e-7d44-9d1b-2a1f0c9e5b11", "a new one": "", "a new one for a token": token} {
			if sent == token && surface == "forwardauth" {
				continue // the handler around it sees to that
			}
			t.Run(surface+", "+name, func(t *testing.T) {
				lines := []string{"Host: x", "Content-Type: application/json", "Authorization: Bearer " + token}
				if sent != "" {
					lines = append(lines, "X-Request-Id: "+sent)
				}
				rec.take()
				told := ask(lines)
				records := rec.take()
				require.Len(t, records, 2)
				assert.NotEqual(t, records[0].Decision.ID, records[1].Decision.ID)
				assert.ElementsMatch(t, []string{"acme:models:llama3:read", "acme:models:mine:write"}, []string{records[0].Request.Scope(), records[1].Request.Scope()})
				for _, r := range records {
					assert.Equal(t, told, r.RequestID)
					assert.Equal(t, surface, r.Surface)
				}
				if name == "the client's" {
					assert.Equal(t, sent, told)
				} else if surface != "forwardauth" {
					assert.True(t, request.ValidID(told), told)
				}
			})
		}
	}
}

func problemOf(t *testing.T, body string) (p api.Problem) {
	t.Helper()
	var out struct{ api.Problem }
	require.NoError(t, json.Unmarshal([]byte(body), &out))
	return out.Problem
}
