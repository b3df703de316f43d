package server_test

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/internal/testenv"
	"patrol/server"
)

// providerKeys are the keys of hostile providers: the key that they publish and
// one that they do not.
var providerKeys = sync.OnceValues(func() ([2]*rsa.PrivateKey, error) {
	var keys [2]*rsa.PrivateKey
	var err error
	for i := range keys {
		if keys[i], err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			break
		}
	}
	return keys, err
})

// hostileProvider is a provider that answers as a test says, which no real one
// does.
type hostileProvider struct {
	t      *testing.T
	issuer string
	keys   [2]*rsa.PrivateKey

	mu     sync.Mutex
	counts map[string]int
	tokens http.HandlerFunc // answers at the token endpoint
	info   map[string]any   // what UserInfo says; nil: there is none
	more   map[string]any   // what else it says of itself
}

func newHostileProvider(t *testing.T, listener net.Listener) *hostileProvider {
	t.Helper()
	keys, err := providerKeys()
	require.NoError(t, err)
	p := &hostileProvider{t: t, keys: keys, counts: map[string]int{}}
	s := httptest.NewUnstartedServer(p)
	if listener != nil {
		require.NoError(t, s.Listener.Close())
		s.Listener = listener
	}
	s.Start()
	t.Cleanup(s.Close)
	p.issuer = s.URL
	return p
}

func (p *hostileProvider) asked(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts[path]
}

func (p *hostileProvider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[r.URL.Path]++
	w.Header().Set("Content-Type", "application/json")
	var answer any
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		doc := map[string]any{
			"issuer": p.issuer, "authorization_endpoint": p.issuer + "/auth", "token_endpoint": p.issuer + "/token", "jwks_uri": p.issuer + "/keys",
			"userinfo_endpoint": p.issuer + "/userinfo", "end_session_endpoint": "javascript:alert(1)",
			"id_token_signing_alg_values_supported": []string{"RS256", "HS256", "none"},
		}
		maps.Copy(doc, p.more)
		answer = doc
	case "/keys":
		answer = map[string]any{"keys": []any{map[string]any{
			"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "k1", "n": b64(p.keys[0].N.Bytes()), "e": b64(big.NewInt(int64(p.keys[0].E)).Bytes()),
		}}}
	case "/token":
		p.tokens(w, r)
		return
	case "/userinfo":
		answer = p.info
	}
	assert.NoError(p.t, json.NewEncoder(w).Encode(answer))
}

func b64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

// signed makes a JWT; with no key it is signed by what sign makes of its text.
func signed(t *testing.T, header, claims map[string]any, sign func(text string) []byte) string {
	t.Helper()
	h, err := json.Marshal(header)
	require.NoError(t, err)
	c, err := json.Marshal(claims)
	require.NoError(t, err)
	text := b64(h) + "." + b64(c)
	return text + "." + b64(sign(text))
}

func rs256(t *testing.T, key *rsa.PrivateKey) func(string) []byte {
	return func(text string) []byte {
		sum := sha256.Sum256([]byte(text))
		signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
		assert.NoError(t, err)
		return signature
	}
}

// What a provider that was taken over, or somebody between, might answer.
func TestAnswersOfAHostileProvider(t *testing.T) {
	const clientSecret = "the secret of the client"
	p := newHostileProvider(t, nil)
	w := newWorld(t, testenv.SQLite(t), func(c *server.Config, _ *server.Deps) {
		c.PublicURL = "http://127.0.0.1:8080"
		c.OIDC.Issuer, c.OIDC.ClientID, c.OIDC.ClientSecret, c.OIDC.Name, c.OIDC.AllowCreate = p.issuer, "patrol", clientSecret, "Example ID", true
	})
	now := w.clock.Now()
	type answer struct {
		claims map[string]any                              // differences from a good ID token; nil takes one away
		header map[string]any                              // likewise
		sign   func(text string) []byte                    // nil: as it should be
		tokens func(idToken string) (status int, body any) // nil: as it should be
		info   map[string]any                              // what UserInfo says
		query  func(q url.Values)                          // changes what comes back
	}
	good := map[string]any{
		"iss": p.issuer, "aud": "patrol", "sub": "zoe", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "auth_time": now.Unix(),
		"email": "zoe@corp.example", "email_verified": true, "name": "Zoe",
	}
	without := func(names ...string) map[string]any {
		out := map[string]any{}
		for _, name := range names {
			out[name] = nil
		}
		return out
	}
	visit := func(a answer) *shown {
		t.Helper()
		v := w.visit("")
		there := mustQuery(t, v.leaves("/login/oidc"))
		claims, header := maps.Clone(good), map[string]any{"alg": "RS256", "kid": "k1", "typ": "JWT"}
		claims["nonce"] = there.Get("nonce")
		for into, changes := range map[*map[string]any]map[string]any{&claims: a.claims, &header: a.header} {
			for name, value := range changes {
				if value == nil {
					delete(*into, name)
				} else {
					(*into)[name] = value
				}
			}
		}
		sign := a.sign
		if sign == nil {
			sign = rs256(t, p.keys[0])
		}
		idToken := signed(t, header, claims, sign)
		p.mu.Lock()
		p.info = a.info
		p.tokens = func(rw http.ResponseWriter, r *http.Request) {
			assert.NoError(t, r.ParseForm())
			sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
			assert.Equal(t, there.Get("code_challenge"), b64(sum[:]), "the verifier fits the challenge")
			status, body := 200, any(map[string]any{"access_token": "a", "token_type": "Bearer", "id_token": idToken})
			if a.tokens != nil {
				status, body = a.tokens(idToken)
			}
			rw.WriteHeader(status)
			assert.NoError(t, json.NewEncoder(rw).Encode(body))
		}
		p.mu.Unlock()
		q := url.Values{"code": {"a code"}, "state": {there.Get("state")}}
		if a.query != nil {
			a.query(q)
		}
		return v.get("/login/oidc/callback?" + q.Encode())
	}

	visit(answer{}).leadsTo("/profile/pats")
	visit(answer{claims: map[string]any{"aud": []string{"another", "patrol"}, "azp": "patrol"}}).leadsTo("/profile/pats")
	visit(answer{claims: map[string]any{"exp": now.Add(-59 * time.Second).Unix(), "nbf": now.Add(59 * time.Second).Unix()}}).leadsTo("/profile/pats") // clocks differ
	visit(answer{claims: without("email", "name"), info: map[string]any{"sub": "zoe", "email": "other@corp.example"}}).leadsTo("/profile/pats")

	groups := make([]string, 10_000)
	for i := range groups {
		groups[i] = fmt.Sprintf("/engineering/team-%d", i)
	}
	visit(answer{claims: map[string]any{"groups": groups}}).leadsTo("/profile/pats")

	plain, err := x509.MarshalPKIXPublicKey(&p.keys[0].PublicKey)
	require.NoError(t, err)
	publicKey := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: plain}))
	oauthError := func(status int, code string) func(string) (int, any) {
		return func(string) (int, any) {
			return status, map[string]any{"error": code, "error_description": clientSecret}
		}
	}
	for name, tc := range map[string]struct {
		answer
		status int
		logged string
	}{
		"another nonce":              {answer{claims: map[string]any{"nonce": "x"}}, 403, "another nonce"},
		"no nonce":                   {answer{claims: without("nonce")}, 403, "another nonce"},
		"another audience":           {answer{claims: map[string]any{"aud": "another"}}, 403, "expected audience"},
		"no audience":                {answer{claims: without("aud")}, 403, "expected audience"},
		"made for another client":    {answer{claims: map[string]any{"aud": []string{"patrol", "another"}, "azp": "another"}}, 403, "for another client"},
		"another issuer":             {answer{claims: map[string]any{"iss": "https://evil.example"}}, 403, "issued by a different provider"},
		"expired":                    {answer{claims: map[string]any{"exp": now.Add(-61 * time.Second).Unix()}}, 403, "expired"},
		"two audiences, no azp":      {answer{claims: map[string]any{"aud": []string{"patrol", "another"}}}, 403, "several audiences"},
		"azp that is no text":        {answer{claims: map[string]any{"azp": 5}}, 403, "for another client"},
		"a subject with NUL":         {answer{claims: map[string]any{"sub": "zoe\x00"}}, 403, "no usable subject"},
		"a subject with a line":      {answer{claims: map[string]any{"sub": "zoe\n"}}, 403, "no usable subject"},
		"half of a surrogate pair":   {answer{claims: map[string]any{"sub": json.RawMessage(`"zoe\ud800"`)}}, 403, "no usable subject"},
		"a subject that is a number": {answer{claims: map[string]any{"sub": 7}}, 403, "oidc: failed to unmarshal claims"},
		"two subjects":               {answer{claims: map[string]any{"\u017fub": "root"}}, 403, "is there more than once"},
		"a code twice":               {answer{query: func(q url.Values) { q.Add("code", "another") }}, 403, "more than once"},
		"never valid":                {answer{claims: without("exp")}, 403, "expired"},
		"not valid yet":              {answer{claims: map[string]any{"nbf": now.Add(time.Hour).Unix()}}, 403, "before the nbf"},
		"no subject":                 {answer{claims: map[string]any{"sub": ""}}, 403, "no usable subject"},
		"too long a subject":         {answer{claims: map[string]any{"sub": strings.Repeat("s", 256)}}, 403, "no usable subject"},
		"a key of nobody":            {answer{sign: rs256(t, p.keys[1])}, 403, "failed to verify"},
		"no signature":               {answer{header: map[string]any{"alg": "none"}, sign: func(string) []byte { return nil }}, 403, "unexpected signature algorithm"},
		"signed with the secret":     {answer{header: map[string]any{"alg": "HS256"}, sign: hs256(clientSecret)}, 403, "unexpected signature algorithm"},
		"the public key as a secret": {answer{header: map[string]any{"alg": "HS256"}, sign: hs256(publicKey)}, 403, "unexpected signature algorithm"},
		"its modulus as a secret":    {answer{header: map[string]any{"alg": "HS256"}, sign: hs256(string(p.keys[0].N.Bytes()))}, 403, "unexpected signature algorithm"},
		"an algorithm not promised":  {answer{header: map[string]any{"alg": "PS256"}}, 403, "unexpected signature algorithm"},
		"the other half of a pair":   {answer{claims: map[string]any{"sub": json.RawMessage(`"zoe\udc00"`)}}, 403, "no usable subject"},
		"a replaced half of a pair":  {answer{claims: map[string]any{"sub": "zoe\ufffd"}}, 403, "no usable subject"},
		"a subject of C1 controls":   {answer{claims: map[string]any{"sub": "zoe\u0085"}}, 403, "no usable subject"},
		"another access token":       {answer{claims: map[string]any{"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}}, 403, "access token hash"},
		"no auth_time":               {answer{claims: without("auth_time")}, 403, "oidc.require_auth_time"},
		"auth_time as text":          {answer{claims: map[string]any{"auth_time": "yesterday"}}, 403, "oidc.require_auth_time"},
		"auth_time of last week":     {answer{claims: map[string]any{"auth_time": now.Add(-169 * time.Hour).Unix()}}, 403, "older than max_age"},
		"auth_time of tomorrow":      {answer{claims: map[string]any{"auth_time": now.Add(24 * time.Hour).Unix()}}, 403, "in the future"},
		"UserInfo of somebody else":  {answer{claims: without("email"), info: map[string]any{"sub": "root", "email": "root@example.com", "email_verified": true}}, 403, "about somebody else"},
		"no ID token":                {answer{tokens: func(string) (int, any) { return 200, map[string]any{"access_token": "a", "token_type": "Bearer"} }}, 403, "no ID token"},
		"a code that is no good":     {answer{tokens: oauthError(400, "invalid_grant")}, 403, "refused the code: 400 invalid_grant"},
		"a client that is not known": {answer{tokens: oauthError(401, "invalid_client")}, 503, "refused the code: 401 invalid_client"},
		"a broken provider":          {answer{tokens: func(string) (int, any) { return 500, clientSecret }}, 503, "refused the code: 500 error"},
		"an endless answer":          {answer{tokens: func(string) (int, any) { return 200, strings.Repeat("x", 2<<20) }}, 503, "unexpected end of JSON input"},
		"the answer of another":      {answer{query: func(q url.Values) { q.Set("iss", "https://evil.example") }}, 403, "another issuer"},
		"no code":                    {answer{query: func(q url.Values) { q.Del("code") }, tokens: oauthError(400, "invalid_grant")}, 403, "invalid_grant"},
	} {
		t.Run(name, func(t *testing.T) {
			seen := len(w.logs.String())
			page := visit(tc.answer).is(tc.status)
			cookies := (&http.Response{Header: page.header}).Cookies()
			require.Len(t, cookies, 1, "no session")
			assert.Equal(t, -1, cookies[0].MaxAge)
			assert.Contains(t, w.logs.String()[seen:], tc.logged)
			w.clock.Advance(time.Second)
		})
	}
	assert.NotContains(t, w.logs.String(), clientSecret)
	assert.Nil(t, w.byEmail("other@corp.example"))
	w.visit("").post("/logout", url.Values{}).is(401)
}

func hs256(secret string) func(string) []byte {
	return func(text string) []byte {
		h := hmac.New(sha256.New, []byte(secret))
		_, _ = io.WriteString(h, text)
		return h.Sum(nil)
	}
}

// An address counts as verified only if the answer that has it says so.
func TestAnAddressIsVerifiedByTheAnswerThatHasIt(t *testing.T) {
	p := newHostileProvider(t, nil)
	w := newWorld(t, testenv.SQLite(t), func(c *server.Config, _ *server.Deps) {
		c.PublicURL = "http://127.0.0.1:8080"
		c.OIDC.Issuer, c.OIDC.ClientID, c.OIDC.AllowCreate = p.issuer, "patrol", true
		c.OIDC.EmailDomains = []string{"Sales.example"}
	})
	yes, no := true, false
	for name, c := range map[string]struct {
		token, info map[string]any
		email       string // of the account that is made; "": none is
	}{
		"both in the token":                       {token: map[string]any{"email": "a@sales.example", "email_verified": yes}, email: "a@sales.example"},
		"both in UserInfo":                        {info: map[string]any{"email": "b@sales.example", "email_verified": yes}, email: "b@sales.example"},
		"the address in the token alone":          {token: map[string]any{"email": "c@sales.example"}, info: map[string]any{"email_verified": yes}},
		"verified is said in the token alone":     {token: map[string]any{"email_verified": yes}, info: map[string]any{"email": "d@sales.example"}},
		"UserInfo has another address":            {token: map[string]any{"email": "e@sales.example"}, info: map[string]any{"email": "f@sales.example", "email_verified": yes}, email: "f@sales.example"},
		"UserInfo takes it back":                  {token: map[string]any{"email_verified": yes}, info: map[string]any{"email": "g@sales.example", "email_verified": no}},
		"a domain that looks alike":               {token: map[string]any{"email": "h@\u017fales.example", "email_verified": yes}},
		"a domain in another case":                {token: map[string]any{"email": "i@SALES.example", "email_verified": yes}, email: "i@sales.example"},
		"a domain behind another":                 {token: map[string]any{"email": "j@evil.example@sales.example", "email_verified": yes}},
		"no text, which some providers call true": {token: map[string]any{"email": "k@sales.example", "email_verified": "yes"}},
	} {
		t.Run(name, func(t *testing.T) {
			v := w.visit("")
			there := mustQuery(t, v.leaves("/login/oidc"))
			now := w.clock.Now()
			claims := map[string]any{
				"iss": p.issuer, "aud": "patrol", "sub": name, "exp": now.Add(time.Minute).Unix(), "auth_time": now.Unix(), "nonce": there.Get("nonce"), "name": "Somebody",
			}
			maps.Copy(claims, c.token)
			info := map[string]any{"sub": name}
			maps.Copy(info, c.info)
			p.mu.Lock()
			p.info = info
			p.tokens = func(rw http.ResponseWriter, _ *http.Request) {
				fmt.Fprintf(rw, `{"access_token":"a","token_type":"Bearer","id_token":%q}`, signed(t, map[string]any{"alg": "RS256", "kid": "k1"}, claims, rs256(t, p.keys[0])))
			}
			p.mu.Unlock()
			page := v.get("/login/oidc/callback?" + url.Values{"code": {"c"}, "state": {there.Get("state")}}.Encode())
			if c.email == "" {
				page.is(403)
				return
			}
			page.leadsTo("/profile/pats")
			assert.NotNil(t, w.byEmail(c.email))
		})
	}
}

// What a sign-in at the provider must have been is held against the ID token alone.
func TestSignInsThatAreNotStrongEnough(t *testing.T) {
	p := newHostileProvider(t, nil)
	list := func(values ...any) []any { return values }
	for name, c := range map[string]struct {
		acr, amr    []string // required
		token, info map[string]any
		ok          bool
	}{
		"nothing is required":                {ok: true},
		"a context that is required":         {acr: []string{"gold", "silver"}, token: map[string]any{"acr": "silver"}, ok: true},
		"another context":                    {acr: []string{"gold"}, token: map[string]any{"acr": "bronze"}},
		"a context in another case":          {acr: []string{"gold"}, token: map[string]any{"acr": "Gold"}},
		"no context":                         {acr: []string{"gold"}},
		"contexts in a list":                 {acr: []string{"gold"}, token: map[string]any{"acr": list("gold")}},
		"a context in UserInfo alone":        {acr: []string{"gold"}, info: map[string]any{"acr": "gold"}},
		"a method among others":              {amr: []string{"mfa", "hwk"}, token: map[string]any{"amr": list("pwd", "hwk")}, ok: true},
		"other methods":                      {amr: []string{"mfa"}, token: map[string]any{"amr": list("pwd", "otp")}},
		"no method":                          {amr: []string{"mfa"}, token: map[string]any{"amr": list()}},
		"a method that is no list":           {amr: []string{"mfa"}, token: map[string]any{"amr": "mfa"}},
		"methods that are no texts":          {amr: []string{"mfa"}, token: map[string]any{"amr": list("mfa", 1)}},
		"a method in UserInfo alone":         {amr: []string{"mfa"}, info: map[string]any{"amr": list("mfa")}},
		"a context, and not the method":      {acr: []string{"gold"}, amr: []string{"mfa"}, token: map[string]any{"acr": "gold"}},
		"a method, and not the context":      {acr: []string{"gold"}, amr: []string{"mfa"}, token: map[string]any{"amr": list("mfa")}},
		"a context and a method as required": {acr: []string{"gold"}, amr: []string{"mfa"}, token: map[string]any{"acr": "gold", "amr": list("mfa")}, ok: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, testenv.SQLite(t), func(s *server.Config, _ *server.Deps) {
				s.PublicURL = "http://127.0.0.1:8080"
				s.OIDC.Issuer, s.OIDC.ClientID, s.OIDC.AllowCreate, s.OIDC.RequiredACR, s.OIDC.RequiredAMR = p.issuer, "patrol", true, c.acr, c.amr
			})
			v := w.visit("")
			there := mustQuery(t, v.leaves("/login/oidc"))
			assert.Equal(t, strings.Join(c.acr, " "), there.Get("acr_values"))
			now := w.clock.Now()
			claims := map[string]any{"iss": p.issuer, "aud": "patrol", "sub": "zoe", "exp": now.Add(time.Minute).Unix(), "auth_time": now.Unix(), "nonce": there.Get("nonce")}
			maps.Copy(claims, c.token)
			info := map[string]any{"sub": "zoe", "email": "zoe@corp.example", "email_verified": true, "name": "Zoe"}
			maps.Copy(info, c.info)
			p.mu.Lock()
			p.info = info
			p.tokens = func(rw http.ResponseWriter, _ *http.Request) {
				fmt.Fprintf(rw, `{"access_token":"a","token_type":"Bearer","id_token":%q}`, signed(t, map[string]any{"alg": "RS256", "kid": "k1"}, claims, rs256(t, p.keys[0])))
			}
			p.mu.Unlock()
			page := v.get("/login/oidc/callback?" + url.Values{"code": {"c"}, "state": {there.Get("state")}}.Encode())
			if c.ok {
				page.leadsTo("/profile/pats")
				return
			}
			assert.Contains(t, page.is(403).text, "was not strong enough")
			assert.Nil(t, w.byEmail("zoe@corp.example"))
		})
	}
}

// What the provider says of itself is read again, must promise what an https issuer does,
// and binds its answers.
func TestTheProviderIsReadAgain(t *testing.T) {
	p := newHostileProvider(t, nil)
	w := newWorld(t, testenv.SQLite(t), func(c *server.Config, _ *server.Deps) {
		c.PublicURL = "http://127.0.0.1:8080"
		c.OIDC.Issuer, c.OIDC.ClientID, c.OIDC.AllowCreate = p.issuer, "patrol", true
	})
	const document = "/.well-known/openid-configuration"
	w.visit("").leaves("/login/oidc")
	w.clock.Advance(59 * time.Minute)
	w.visit("").leaves("/login/oidc")
	assert.Equal(t, 1, p.asked(document))
	p.mu.Lock()
	p.more = map[string]any{"authorization_response_iss_parameter_supported": true}
	p.mu.Unlock()
	w.clock.Advance(2 * time.Minute)
	v := w.visit("")
	there := mustQuery(t, v.leaves("/login/oidc"))
	assert.Equal(t, 2, p.asked(document))
	v.get("/login/oidc/callback?" + url.Values{"code": {"c"}, "state": {there.Get("state")}}.Encode()).is(403)
	assert.Contains(t, w.logs.String(), "none where the provider promises one")

	// A provider that is away stays what it was.
	p.mu.Lock()
	p.more = map[string]any{"issuer": "https://evil.example"}
	p.mu.Unlock()
	w.clock.Advance(2 * time.Hour)
	w.visit("").leaves("/login/oidc")
	assert.Equal(t, 3, p.asked(document))
	assert.Contains(t, w.logs.String(), "the last one counts")
}

// A provider that has no auth_time to give can be used if the operator says so.
func TestAProviderWithoutAuthTime(t *testing.T) {
	p := newHostileProvider(t, nil)
	w := newWorld(t, testenv.SQLite(t), func(c *server.Config, _ *server.Deps) {
		c.PublicURL = "http://127.0.0.1:8080"
		c.OIDC.Issuer, c.OIDC.ClientID, c.OIDC.AllowCreate, c.OIDC.RequireAuthTime, c.OIDC.MaxAge = p.issuer, "patrol", true, false, 0
	})
	v := w.visit("")
	there := mustQuery(t, v.leaves("/login/oidc"))
	assert.False(t, there.Has("max_age"))
	claims := map[string]any{
		"iss": p.issuer, "aud": "patrol", "sub": "zoe", "exp": w.clock.Now().Add(time.Minute).Unix(), "nonce": there.Get("nonce"),
		"email": "zoe@corp.example", "email_verified": true, "name": "Zoe",
	}
	p.tokens = func(rw http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(rw, `{"access_token":"a","token_type":"Bearer","id_token":%q}`, signed(t, map[string]any{"alg": "RS256", "kid": "k1"}, claims, rs256(t, p.keys[0])))
	}
	v.get("/login/oidc/callback?" + url.Values{"code": {"c"}, "state": {there.Get("state")}}.Encode()).leadsTo("/profile/pats")
	v.post("/profile/identity", url.Values{"action": {"disconnect"}}).is(409) // fresh enough to be told why not
}
