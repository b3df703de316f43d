package engine_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/models"
	"patrol/policies/engine"
	"patrol/policies/engine/enginetest"
)

// TestReads has each way in which rules can read what is known of a call.
func TestReads(t *testing.T) {
	t.Parallel()
	every := engine.Reads{IP: true, UserAgent: true, Method: true, Path: true, Headers: true}
	for name, tc := range map[string]struct {
		rule string
		want engine.Reads
	}{
		"nothing":                      {`deny contains {"code": "m", "message": "M"} if input.request.entity == "x"`, engine.Reads{}},
		"the address":                  {`deny contains {"code": "m", "message": "M"} if input.client.ip == "192.0.2.1"`, engine.Reads{IP: true}},
		"the program":                  {`deny contains {"code": "m", "message": "M"} if input.client.user_agent == "x"`, engine.Reads{UserAgent: true}},
		"all of the client":            {`deny contains {"code": "m", "message": "M"} if input.client == {}`, engine.Reads{IP: true, UserAgent: true}},
		"by a variable":                {"deny contains {\"code\": \"m\", \"message\": \"M\"} if {\n\tsome k in [\"ip\"]\n\tinput.client[k] == \"x\"\n}", engine.Reads{IP: true, UserAgent: true}},
		"through a variable":           {"deny contains {\"code\": \"m\", \"message\": \"M\"} if {\n\tc := input.http\n\tc.method == \"GET\"\n}", engine.Reads{Method: true, Path: true, Headers: true}},
		"below not":                    {`deny contains {"code": "m", "message": "M"} if not input.http.headers["x-source"] == "a"`, engine.Reads{Headers: true}},
		"in a function":                {"deny contains {\"code\": \"m\", \"message\": \"M\"} if f(1)\n\nf(_) if input.http.path == \"/\"", engine.Reads{Path: true}},
		"in an exception":              {`waive contains {"code": "role_forbids", "because": "b", "until": input.now + 9} if input.http.method == "GET"`, engine.Reads{Method: true}},
		"in labels":                    {`labels := {"ip": input.client.ip}`, engine.Reads{IP: true}},
		"of tokens for some addresses": {"deny contains {\"code\": \"m\", \"message\": \"M\"} if {\n\tsome r in input.token.allowed_ips\n\tnot net.cidr_contains(r, input.client.ip)\n}", engine.Reads{}},
		"of those, and of others":      {"deny contains {\"code\": \"m\", \"message\": \"M\"} if {\n\tr := [x | some x in input.token.allowed_ips]\n\tnot input.client.ip in r\n}", engine.Reads{IP: true}},
		"of the others":                {"deny contains {\"code\": \"m\", \"message\": \"M\"} if {\n\tnot input.token.allowed_ips\n\tinput.client.ip == \"192.0.2.1\"\n}", engine.Reads{IP: true}},
		"of the others, by else":       {"deny contains {\"code\": \"m\", \"message\": \"M\"} if e\n\ne if {\n\tsome r in input.token.allowed_ips\n\tr == input.client.ip\n} else if input.client.ip == \"192.0.2.1\"", engine.Reads{IP: true}},
		"the whole input":              {`deny contains {"code": "m", "message": "M"} if count(input) == 99`, every},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := load(t, map[string]string{"custom/own.rego": "package patrol.custom\n\n" + tc.rule + "\n"})
			assert.Equal(t, tc.want, s.Reads())
		})
	}
	assert.Equal(t, engine.Reads{}, load(t, nil).Reads(), "the default policy")
}

// TestCallFacts has what is known of a call judged, in slots and as one document.
func TestCallFacts(t *testing.T) {
	t.Parallel()
	s := load(t, map[string]string{"custom/own.rego": `package patrol.custom

deny contains {"code": "outside", "message": "This is not the office."} if not inside

inside if net.cidr_contains("203.0.113.0/24", input.client.ip)

inside if net.cidr_contains("2001:db8::/32", input.client.ip)

deny contains {"code": "curl", "message": "No curl."} if startswith(input.client.user_agent, "curl/")

deny contains {"code": "posted", "message": "No POST."} if input.http.method == "POST"

deny contains {"code": "admin_path", "message": "No admin."} if startswith(input.http.path, "/admin")

deny contains {"code": "unsourced", "message": "No source."} if {
	input.http.headers
	not input.http.headers["x-source"] == "a"
}
`})
	ip := netip.MustParseAddr
	in := func(method, path string, headers map[string]string) *models.ProxiedFacts {
		return &models.ProxiedFacts{Method: method, Path: path, Headers: headers}
	}
	source := map[string]string{"x-source": "a"}
	for name, tc := range map[string]struct {
		client models.Client
		http   *models.ProxiedFacts
		want   string
	}{
		"inside":             {models.Client{IP: ip("203.0.113.7")}, nil, ""},
		"inside over IPv6":   {models.Client{IP: ip("2001:db8::1")}, nil, ""},
		"IPv4 in IPv6":       {models.Client{IP: ip("::ffff:203.0.113.7")}, nil, ""},
		"with a zone":        {models.Client{IP: ip("2001:db8::1%eth0")}, nil, ""},
		"outside":            {models.Client{IP: ip("203.0.114.7")}, nil, "outside"},
		"outside in IPv6":    {models.Client{IP: ip("::ffff:198.51.100.1")}, nil, "outside"},
		"unknown":            {models.Client{}, nil, "outside"},
		"by program":         {models.Client{IP: ip("203.0.113.7"), UserAgent: "curl/8"}, nil, "curl"},
		"proxied":            {models.Client{IP: ip("203.0.113.7")}, in("GET", "/v1/models", source), ""},
		"by method":          {models.Client{IP: ip("203.0.113.7")}, in("POST", "/v1/models", source), "posted"},
		"by path":            {models.Client{IP: ip("203.0.113.7")}, in("GET", "/admin/x", source), "admin_path"},
		"without the header": {models.Client{IP: ip("203.0.113.7")}, in("GET", "/v1/models", nil), "unsourced"},
		"another header":     {models.Client{IP: ip("203.0.113.7")}, in("GET", "/v1/models", map[string]string{"x-source": "b"}), "unsourced"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := enginetest.Facts()
			f.Client, f.HTTP = tc.client, tc.http
			now := time.Unix(1790500000, 0)
			d, err := s.Decide(t.Context(), enginetest.ReadModel, f, now)
			require.NoError(t, err)
			codes := ""
			for _, r := range d.Reasons {
				codes += string(r.Code)
			}
			assert.Equal(t, tc.want, codes)
			doc, err := engine.InputOf(enginetest.ReadModel, f, now)
			require.NoError(t, err)
			again, err := s.DecideRaw(t.Context(), doc)
			require.NoError(t, err)
			assert.Equal(t, d, again, "as one document")
			series := s.Series()
			defer series.End()
			for range 2 {
				again, err = series.Decide(t.Context(), enginetest.ReadModel, f, now)
				require.NoError(t, err)
				assert.Equal(t, d, again, "in a series")
			}
		})
	}
}

// TestADocumentWithRequestIsADecision has what else is in it.
func TestADocumentWithRequestIsADecision(t *testing.T) {
	t.Parallel()
	for text, kind := range map[string]engine.Kind{
		`{"request": {}, "http": {"method": "GET"}}`:             engine.KindDecision,
		`{"request": null, "http": {}}`:                          engine.KindDecision,
		`{"http": {"method": "GET"}}`:                            engine.KindRoute,
		`{"input": {"request": {}, "http": {"method": "GET"}}}`:  engine.KindDecision,
		`{"input": {"http": {"method": "GET"}}, "result": true}`: engine.KindRoute,
		`{"now": 5}`: engine.KindDecision,
	} {
		in, err := engine.ReadInput(t.Context(), []byte(text))
		require.NoError(t, err)
		assert.Equal(t, kind, in.Kind, text)
	}
}
