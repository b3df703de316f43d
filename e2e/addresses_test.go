package e2e_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"patrol/internal/authztest"
	"patrol/internal/testenv"
	"patrol/models"
	"patrol/models/store"
)

// office is custom/office.rego of docs/policy.md, with another network.
func office(t *testing.T, network string) string {
	t.Helper()
	code := exampleIn(t, "../docs/policy.md", "custom/office.rego")
	require.LessOrEqual(t, strings.Count(code, "\n"), 12)
	require.Contains(t, code, "203.0.113.0/24")
	return strings.ReplaceAll(code, "203.0.113.0/24", network)
}

// TestAnAddressRule holds the rule by address of docs/policy.md on every surface: clients here
// are at 127.0.0.1, whatever they say.
func TestAnAddressRule(t *testing.T) {
	for name, network := range map[string]string{"outside": "203.0.113.0/24", "inside": "127.0.0.0/8"} {
		t.Run(name, func(t *testing.T) {
			up := newUpstream(t)
			b := &testBench{patrol: openPatrol(t, testenv.SQLite(t), up.url, options{
				policy: policyFolder(t, map[string]string{"custom/office.rego": office(t, network)}),
			}), up: up, addrs: map[string]string{}}
			conn, err := grpc.NewClient(b.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
			require.NoError(t, err)
			defer func() { require.NoError(t, conn.Close()) }()
			b.check = authv3.NewAuthorizationClient(conn)
			want := map[string]int{"outside": http.StatusForbidden, "inside": http.StatusOK}[name]
			for _, surface := range surfaces {
				t.Run(surface, func(t *testing.T) {
					b.addrs[surface] = b.open(t, surface)
					want := want
					if surface == onEnvoyHTTP { // it does not tell the address of its client
						want = http.StatusForbidden
					}
					c := testCase{Token: "reader", Send: "GET /proxy/acme/v1/models", Asks: "acme:models:*:read", Status: want}
					if surface == onGRPC {
						assert.Equal(t, want, b.checkFrom(t, c, "127.0.0.1"))
						assert.Equal(t, http.StatusForbidden, b.checkFrom(t, c, "192.0.2.1"), "somewhere else")
						assert.Equal(t, http.StatusForbidden, b.checkFrom(t, c, ""), "nobody knows where")
						return
					}
					b.run(t, surface, c, surface+"-plain")
					if surface != onAuthorize {
						c.Headers = []string{"X-Forwarded-For: 203.0.113.7", "X-Real-IP: 203.0.113.7", "Forwarded: for=203.0.113.7", "True-Client-IP: 203.0.113.7"}
						b.run(t, surface, c, surface+"-lie")
					}
				})
			}
		})
	}
}

// TestATokensAddresses holds the addresses that a token is for on every surface, with the
// default policy and with one that does not ask for them.
func TestATokensAddresses(t *testing.T) {
	for name, tc := range map[string]struct {
		allowed string
		deaf    bool // the policy does not ask
		want    int
	}{
		"outside":                  {"203.0.113.0/24", false, http.StatusForbidden},
		"inside":                   {"127.0.0.0/8", false, http.StatusOK},
		"outside, an older policy": {"203.0.113.0/24", true, http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			up := newUpstream(t)
			p := openPatrol(t, testenv.SQLite(t), up.url, options{})
			if tc.deaf {
				src := authztest.Source(t)
				src.Files["authz/authz.rego"] = bytes.Replace(src.Files["authz/authz.rego"], []byte("if not address_allowed"), []byte("if false"), 1)
				p.policy.Swap(authztest.Load(t, src))
			}
			b := &testBench{patrol: p, up: up, addrs: map[string]string{}}
			pat, err := p.store.PAT(t.Context(), p.tokenIDs["reader"])
			require.NoError(t, err)
			_, err = p.store.UpdatePAT(t.Context(), models.Actor{Kind: models.ActorOperator}, pat.UserID, pat.ID, store.PATPatch{AllowedIPs: &[]string{tc.allowed}})
			require.NoError(t, err)
			conn, err := grpc.NewClient(b.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
			require.NoError(t, err)
			defer func() { require.NoError(t, conn.Close()) }()
			b.check = authv3.NewAuthorizationClient(conn)
			elsewhere := max(tc.want, http.StatusForbidden)
			for _, surface := range surfaces {
				t.Run(surface, func(t *testing.T) {
					b.addrs[surface] = b.open(t, surface)
					want := tc.want
					if surface == onEnvoyHTTP { // it does not tell the address of its client
						want = http.StatusForbidden // and turns 503 into this
					}
					c := testCase{Token: "reader", Send: "GET /proxy/acme/v1/models", Asks: "acme:models:*:read", Status: want}
					if surface == onGRPC {
						assert.Equal(t, want, b.checkFrom(t, c, "127.0.0.1"))
						assert.Equal(t, elsewhere, b.checkFrom(t, c, "192.0.2.1"), "somewhere else")
						assert.Equal(t, elsewhere, b.checkFrom(t, c, ""), "nobody knows where")
						return
					}
					b.run(t, surface, c, surface+"-plain")
				})
			}
		})
	}
}

// checkFrom asks as an Envoy about a request that came from an address.
func (b *testBench) checkFrom(t *testing.T, c testCase, from string) int {
	t.Helper()
	q := checkRequest(b.wire(c, "check"))
	if from != "" {
		q.Attributes.Source = &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{
			SocketAddress: &corev3.SocketAddress{Address: from},
		}}}
	}
	res, err := b.check.Check(t.Context(), q)
	require.NoError(t, err)
	if res.GetOkResponse() != nil {
		return http.StatusOK
	}
	return int(res.GetDeniedResponse().GetStatus().GetCode())
}
