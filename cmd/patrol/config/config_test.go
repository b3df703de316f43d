package config_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"patrol/cmd/patrol/config"
	"patrol/models"
	"patrol/server/identity"
)

const key = "k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

// load runs Load with a settings file (if yaml is not ""), an environment and
// command line arguments.
func load(t *testing.T, yaml string, environ, args []string) (config.Config, error) {
	t.Helper()
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	config.AddFlags(flags)
	if yaml != "" {
		path := filepath.Join(t.TempDir(), "patrol.yaml")
		require.NoError(t, os.WriteFile(path, []byte(yaml), 0o600))
		args = append(args, "--config", path)
	}
	require.NoError(t, flags.Parse(args))
	return config.Load(flags, environ)
}

func TestLayers(t *testing.T) {
	yaml := "listen: 127.0.0.1:1\npolicy: from-file\ndatabase:\n  url: sqlite://from-file.db\ntokens:\n  max_lifetime: 10d\n"
	environ := []string{"PATROL_POLICY=from-env", "PATROL_DATABASE_URL=sqlite://from-env.db", "PATROL_LISTEN="}
	c, err := load(t, yaml, environ, []string{"--database-url", "sqlite://from-flag.db"})
	require.NoError(t, err)
	assert.Equal(t, "sqlite://from-flag.db", c.Database.URL.Reveal(), "a flag outranks the environment")
	assert.Equal(t, "from-env", c.Policy, "the environment outranks the file")
	assert.Equal(t, "127.0.0.1:1", c.Listen, "an empty variable counts as absent")
	assert.Equal(t, 240*time.Hour, c.Tokens.MaxLifetime)
	assert.Equal(t, "127.0.0.1:9191", c.GRPCListen, "the default")
}

func TestDefaultsAreValid(t *testing.T) {
	c, err := load(t, "", nil, nil)
	require.NoError(t, err)
	assert.Equal(t, "sqlite://data/patrol.db", c.Database.URL.Reveal())
	c, err = load(t, "", nil, []string{"--data-dir", "/var/lib/patrol"})
	require.NoError(t, err)
	assert.Equal(t, "sqlite:///var/lib/patrol/patrol.db", c.Database.URL.Reveal())
}

func TestFileNamedByEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.yaml")
	require.NoError(t, os.WriteFile(path, []byte("log:\n  level: debug\n"), 0o600))
	c, err := load(t, "", []string{"PATROL_CONFIG=" + path}, nil)
	require.NoError(t, err)
	assert.Equal(t, "debug", c.Log.Level)
}

func TestProblems(t *testing.T) {
	for name, tc := range map[string]struct {
		yaml    string
		environ []string
		args    []string
		want    []string // each a part of the error
		exact   int      // number of problems
	}{
		"unknown key": {
			yaml: "lisen: :8080\ndatabase:\n  uri: x\nnonsense: {a: 1}\n",
			want: []string{"lisen: is not a setting; did you mean listen?", "database.uri: is not a setting; did you mean database.url?", "nonsense: is not a setting"}, exact: 3,
		},
		"unknown variable": {
			environ: []string{"PATROL_TOKENS_MAX_LIFTIME=3d"},
			want:    []string{"PATROL_TOKENS_MAX_LIFTIME: is not a setting; did you mean PATROL_TOKENS_MAX_LIFETIME?"}, exact: 1,
		},
		"a section that is a value": {yaml: "database: sqlite://x\n", want: []string{"database: is a section"}, exact: 1},
		"every layer is named": {
			yaml:    "tokens:\n  max_scopes: many\n",
			environ: []string{"PATROL_TOKENS_MAX_LIFETIME=1 year"},
			args:    []string{"--listen", "nowhere"},
			want: []string{
				"tokens.max_scopes (in patrol.yaml): must be a whole number",
				"tokens.max_lifetime (PATROL_TOKENS_MAX_LIFETIME): must be a duration such as 30d",
				"listen (--listen): must be an address",
			}, exact: 3,
		},
		"text that YAML changes":        {yaml: "policy: 0123\n", want: []string{"policy (in patrol.yaml): must be text: put it in quotes"}, exact: 1},
		"a policy over http":            {args: []string{"--policy", "http://example.com/b.tar.gz"}, want: []string{"policy (--policy): it must begin with https://"}, exact: 1},
		"a port":                        {args: []string{"--grpc-listen", "127.0.0.1:70000"}, want: []string{"grpc_listen (--grpc-listen): the port"}, exact: 1},
		"a database of another make":    {args: []string{"--database-url", "mysql://u:hunter2@h/d"}, want: []string{"database.url (--database-url): must start with sqlite:// or postgres://"}, exact: 1},
		"too few connections":           {yaml: "database: {url: postgres://h/d, max_conns: 9}\n", want: []string{"database.max_conns (in patrol.yaml): must be at least 10 with PostgreSQL"}, exact: 1},
		"to listen beside SQLite":       {yaml: "database: {listen_url: postgres://h/d}\n", want: []string{"database.listen_url (in patrol.yaml): must start with postgres://"}, exact: 1},
		"parameters of a SQLite file":   {args: []string{"--database-url", "sqlite://x.db?mode=ro"}, want: []string{"database.url (--database-url): has the path of a file behind sqlite://, which is taken as it stands, without parameters (?, #) and percent-encoding (%20)"}, exact: 1},
		"a SQLite path with an escape":  {args: []string{"--database-url", "sqlite:///my%20data/x.db"}, want: []string{"percent-encoding (%20)"}, exact: 1},
		"a SQLite path with a fragment": {environ: []string{"PATROL_DECISION_LOG_DATABASE_URL=sqlite://x.db#y"}, want: []string{"decision_log.database_url (PATROL_DECISION_LOG_DATABASE_URL): has the path"}, exact: 1},
		"public url with password":      {args: []string{"--public-url", "https://u:hunter2@example.com"}, want: []string{"public_url (--public-url): must not hold"}, exact: 1},
		"upstream with password":        {args: []string{"--upstream", "http://u:hunter2@models.example"}, want: []string{"upstream (--upstream): must not hold"}, exact: 1},
		"half a certificate":            {args: []string{"--tls-cert-file", "x.pem"}, want: []string{"tls.key_file: is required"}, exact: 1},
		"both secret and file":          {yaml: "token_keys: " + key + "\ntoken_keys_file: /x\n", want: []string{"give either token_keys in patrol.yaml or token_keys_file in patrol.yaml"}, exact: 1},
		"a secret file that is absent":  {environ: []string{"PATROL_TOKEN_KEYS_FILE=/does/not/exist"}, want: []string{"token_keys_file (PATROL_TOKEN_KEYS_FILE): stat /does/not/exist"}, exact: 1},
		"short key":                     {environ: []string{"PATROL_TOKEN_KEYS=k1:aHVudGVyMg=="}, want: []string{`token_keys (PATROL_TOKEN_KEYS): key "k1" has 7 bytes`}, exact: 1},
		"staleness":                     {yaml: "decisions: {poll_interval: 300ms, max_staleness: 1ms}\n", want: []string{"decisions.poll_interval (in patrol.yaml): must be at most 250ms", "decisions.max_staleness"}, exact: 2},
		"upstreams": {
			yaml: "upstreams:\n  Acme: {url: http://x}\n  b: {headers: {'a b': x}}\n  c: {url: 'ftp://x', colour: red}\n  d: 1\n",
			want: []string{"upstreams.Acme: must be 1 to 63", "upstreams.b.url: is required", `upstreams.b.headers: "a b"`, "upstreams.c.url: must be a URL", "upstreams.c.colour: is not a setting", "upstreams.d: must be a mapping"}, exact: 6,
		},
		"a kind that there is none of": {
			yaml: "upstreams:\n  acme: {url: 'http://x', kind: Ollama}\n  b: {kind: ''}\n  c: {kind: vllm, headers: {X-A: b}}\n", environ: []string{"PATROL_UPSTREAM_KIND=ollamma"},
			want: []string{
				`upstream_kind (PATROL_UPSTREAM_KIND): "ollamma" is no kind of upstream: use openai, vllm, litellm, ollama, or nothing`,
				`upstreams.acme.kind: "Ollama" is no kind`, "upstreams.b.url: is required", "upstreams.c.url: is required",
			}, exact: 4,
		},
		"credential for nobody": {environ: []string{"PATROL_UPSTREAM_CREDENTIAL=Bearer hunter2"}, want: []string{"upstream_credential (PATROL_UPSTREAM_CREDENTIAL): there is no upstream"}, exact: 1},
		"half a provider":       {environ: []string{"PATROL_OIDC_CLIENT_SECRET=hunter2"}, want: []string{"oidc.issuer: is required with"}, exact: 1},
		"a provider over plain HTTP": {
			yaml: "public_url: https://p.example\noidc: {issuer: 'http://idp.example', client_id: p}\n",
			want: []string{"oidc.issuer (in patrol.yaml): must be a URL that starts with https://"}, exact: 1,
		},
		"a provider without the rest": {
			yaml: "oidc:\n  issuer: https://idp.example\n  name: ''\n  email_domains: ['@example.com']\n  required_acr: ['a b']\n  required_amr: ['']\n  scopes: ['a b']\n  memberships: [eng, 'eng=Acme:member', 'eng=acme', '=acme:member', 'a=b=acme:member']\n  timeout: 0\n  groups_claim: ''\n",
			want: []string{
				"public_url: is required with oidc.issuer", "oidc.client_id: is required", "oidc.name (in patrol.yaml): is required", "oidc.groups_claim (in patrol.yaml): is required",
				`"@example.com" is not a domain`, "oidc.required_acr", "oidc.required_amr", `"a b" is not a scope`, `"eng" is not of the form`, `"eng=Acme:member" is not`, `"eng=acme" is not`, `"=acme:member" is not`, "oidc.timeout",
			}, exact: 13,
		},
		"a playground without bounds": {
			yaml: "playground: {per_minute: 0, running: 100, cpu_time: 10ms, timeout: 1h, memory: 1MiB, max_body: 1KiB, max_replay: -1}\n",
			want: []string{
				"playground.per_minute (in patrol.yaml): must be from 1 to 1000", "playground.running (in patrol.yaml): must be from 1 to 64", "playground.cpu_time (in patrol.yaml): must be at least 1s",
				"playground.timeout (in patrol.yaml): must be at most 10m", "playground.memory (in patrol.yaml): must be at least 128MiB", "playground.max_body (in patrol.yaml): must be from 64KiB to 32MiB",
				"playground.max_replay (in patrol.yaml): must be from 0 to",
			}, exact: 7,
		},
		"broken YAML":           {yaml: "token_keys: [hunter2\n", want: []string{"is not valid YAML"}},
		"YAML of another shape": {yaml: "hunter2\n", want: []string{"is not valid YAML", "***"}},
		"a key twice":           {yaml: "listen: :1\nlisten: :2\n", want: []string{"is not valid YAML", `"listen" already defined`}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, tc.yaml, tc.environ, tc.args)
			require.Error(t, err)
			for _, want := range tc.want {
				assert.Contains(t, err.Error(), want)
			}
			assert.NotContains(t, err.Error(), "hunter2")
			if tc.exact > 0 {
				var p config.SettingErrors
				require.ErrorAs(t, err, &p)
				assert.Len(t, p, tc.exact, "%v", err)
			}
		})
	}
}

func TestVariablesThatAreNoSettings(t *testing.T) {
	_, err := load(t, "", []string{
		"PATROL_TEST_POSTGRES=x", "PATROL_REQUIRE=postgres", "PATROL_LONG=1", "PATROL_SKIPPED=x",
		"PATROL_TOKEN=x", "PATROL_SERVER=x", "PATROL_CREDENTIALS=x", "PATROL_CONFIG=",
		"PATROL_SERVICE_HOST=10.0.0.1", "PATROL_SERVICE_PORT=80", "PATROL_SERVICE_PORT_HTTP=80", "PATROL_PORT=tcp://10.0.0.1:80",
		"PATROL_PORT_80_TCP=x", "PATROL_PORT_80_TCP_PROTO=tcp", "PATROL_POSTGRES_SERVICE_HOST=10.0.0.2", "PATROL_POSTGRES_PORT_5432_TCP_ADDR=x",
	}, nil)
	require.NoError(t, err)
}

func TestSecretsFromFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.WriteFile(path, []byte(key+"\n"), 0o600))
	for name, environ := range map[string][]string{
		"explicitly":            {"PATROL_TOKEN_KEYS_FILE=" + path},
		"in place of the value": {"PATROL_TOKEN_KEYS=" + path},
	} {
		t.Run(name, func(t *testing.T) {
			// The environment outranks the file's own ring, whichever form either has.
			c, err := load(t, "token_keys: k0:"+strings.TrimPrefix(key, "k1:")+"\n", environ, nil)
			require.NoError(t, err)
			ring, ok, err := c.Keyring()
			require.NoError(t, err)
			assert.True(t, ok)
			assert.Equal(t, []string{"k1"}, ring.IDs())
			file, ok := c.KeyringFile()
			assert.True(t, ok, "it is read again when it changes")
			assert.Equal(t, path, file)
		})
	}
	for name, yaml := range map[string]string{
		"in the settings file":               "token_keys_file: " + path + "\n",
		"in the settings file, as the value": "token_keys: " + path + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			loaded, err := load(t, yaml, nil, nil)
			require.NoError(t, err)
			file, _ := loaded.KeyringFile()
			assert.Equal(t, path, file)
		})
	}
	outranked, err := load(t, "token_keys_file: "+path+"\n", []string{"PATROL_TOKEN_KEYS=" + key}, nil)
	require.NoError(t, err)
	file, ok := outranked.KeyringFile()
	assert.False(t, ok, "%s is of a layer that does not count", file)
	upstream := fmt.Sprintf("upstreams:\n  acme: {url: http://x, credential_file: %s, credential_header: X-Key}\n", path)
	c, err := load(t, upstream, nil, nil)
	require.NoError(t, err)
	assert.Equal(t, key, c.AllUpstreams()["acme"].Credential.Reveal())
}

func TestUpstreamTakesThePlaceOfTheDefault(t *testing.T) {
	c, err := load(t, "upstreams:\n  '*': {url: 'http://old', headers: {X-Team: a}}\n  acme: {url: 'http://acme'}\n",
		[]string{"PATROL_UPSTREAM_CREDENTIAL=Bearer x"}, []string{"--upstream", "http://new"})
	require.NoError(t, err)
	all := c.AllUpstreams()
	assert.Equal(t, "http://new", all["*"].URL.Reveal())
	assert.Equal(t, "Bearer x", all["*"].Credential.Reveal())
	assert.Equal(t, "a", all["*"].Headers["X-Team"].Reveal())
	assert.Equal(t, "http://acme", all["acme"].URL.Reveal())
}

func TestKindsOfUpstreams(t *testing.T) {
	yaml := "upstreams:\n  '*': {url: 'http://old', kind: vllm}\n  acme: {url: 'http://acme'}\n  lab: {url: 'http://lab', kind: litellm}\n  asked: {kind: ollama}\n"
	c, err := load(t, yaml, nil, nil)
	require.NoError(t, err)
	kinds := c.DomainKinds()
	for domain, want := range map[string]models.UpstreamKind{"acme": "", "lab": "litellm", "asked": "ollama", "other": "vllm"} {
		assert.Equal(t, want, kinds.Of(domain), domain)
	}
	assert.NotContains(t, c.AllUpstreams(), "asked", "it has no upstream of its own")
	assert.Len(t, c.AllUpstreams(), 3)
	var out bytes.Buffer
	require.NoError(t, c.Print(&out))
	again, err := load(t, out.String(), nil, nil)
	require.NoError(t, err, out.String())
	assert.Equal(t, kinds, again.DomainKinds())

	for name, set := range map[string]struct{ environ, args []string }{
		"environment": {environ: []string{"PATROL_UPSTREAM_KIND=ollama"}},
		"flag":        {environ: []string{"PATROL_UPSTREAM_KIND=vllm"}, args: []string{"--upstream-kind", "ollama"}},
	} {
		c, err := load(t, yaml, set.environ, set.args)
		require.NoError(t, err)
		assert.Equal(t, models.UpstreamOllama, c.DomainKinds().Of("other"), name)
		assert.Equal(t, models.UpstreamKind(""), c.DomainKinds().Of("acme"), "%s: an upstream of one's own takes nothing over", name)
	}
	c, err = load(t, "", []string{"PATROL_UPSTREAM_KIND=ollama"}, nil)
	require.NoError(t, err)
	assert.Equal(t, models.UpstreamOllama, c.DomainKinds().Of("any"), "there need be no upstream here")
	assert.Empty(t, c.AllUpstreams())
}

func TestPrintMasksAndReadsBack(t *testing.T) {
	yaml := `token_keys: ` + key + `
database:
  url: postgres://patrol:hunter2@db.example/patrol?sslmode=verify-full&sslpassword=hunter2
upstream: http://models.example/base
upstream_credential: Bearer hunter2
trusted_proxies: [10.0.0.0/8]
upstreams:
  "*": {url: "http://x"}
  acme: {url: "http://x", credential: hunter2, credential_header: X-Key, headers: {X-Secret: hunter2}}
`
	c, err := load(t, yaml, nil, nil)
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, c.Print(&out))
	text := out.String()
	assert.NotContains(t, text, "hunter2")
	assert.NotContains(t, text, strings.TrimPrefix(key, "k1:"))
	for _, want := range []string{
		"url: postgres://patrol:***@db.example/patrol?sslmode=verify-full&sslpassword=***",
		"max_lifetime: 366d", "max_json_body: 16MiB", "X-Secret: '***'", "- 10.0.0.0/8",
	} {
		assert.Contains(t, strings.ReplaceAll(text, `"***"`, `'***'`), want)
	}
	for _, s := range []string{fmt.Sprintf("%v %+v %#v", c, c, c), logged(c)} {
		assert.NotContains(t, s, "hunter2", "no form of output shows a secret")
	}

	// The defaults, printed, are a settings file that says the same.
	c, err = load(t, "", nil, nil)
	require.NoError(t, err)
	out.Reset()
	require.NoError(t, c.Print(&out))
	again, err := load(t, out.String(), nil, nil)
	require.NoError(t, err)
	var second bytes.Buffer
	require.NoError(t, again.Print(&second))
	assert.Equal(t, out.String(), second.String())
}

func logged(c config.Config) string {
	var b bytes.Buffer
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "config", c, "url", c.Database.URL, "keys", c.TokenKeys)
	return b.String()
}

func TestReferenceIsCurrent(t *testing.T) {
	var want bytes.Buffer
	require.NoError(t, config.Reference(&want))
	path := filepath.Join("..", "..", "..", "docs", "configuration.md")
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, want.String(), string(got), "run: go generate ./cmd/patrol")
}

func TestEverySettingIsDocumented(t *testing.T) {
	seen := map[string]string{}
	for _, s := range config.Settings() {
		assert.True(t, strings.HasSuffix(s.Doc, ".") || strings.HasSuffix(s.Doc, "below."), "%s: the text is no sentence", s.Key)
		if env := s.Env(); env != "" {
			assert.Empty(t, seen[env], "%s and %s share %s", seen[env], s.Key, env)
			seen[env] = s.Key
		}
	}
}

func TestURLsMaskTheirCredentials(t *testing.T) {
	for in, want := range map[config.URL]string{
		"":                                       "",
		"http://x/base":                          "http://x/base",
		"http://hunter2@x/base":                  "http://***@x/base",
		"postgres://u:hunter2@/d":                "postgres://u:***@/d",
		"postgres://u:p@h/d?sslmode=off":         "postgres://u:***@h/d?sslmode=off",
		"postgres://h/d?password=hunter2&user=u": "postgres://h/d?password=***&user=u",
		"postgres://h/d?pass%77ord=hunter2":      "postgres://h/d?pass%77ord=***",
		"postgres://u:hunter%2@h/d":              "***",
		"sqlite://data/patrol.db":                "sqlite://data/patrol.db",
		"sqlite:///var/lib/patrol/patrol.db":     "sqlite:///var/lib/patrol/patrol.db",
	} {
		assert.Equal(t, want, in.String())
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]config.Size{"0": 0, "1024": 1024, "64KiB": 64 << 10, "16 MiB": 16 << 20, "10MB": 10_000_000, "1gib": 1 << 30, "5B": 5} {
		got, err := config.ParseSize(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "-1", "1.5MiB", "many", "9999999999GiB", "KiB", "1TiB2"} {
		_, err := config.ParseSize(text)
		assert.Error(t, err, text)
	}
	assert.Equal(t, "64KiB", config.Size(64<<10).String())
	assert.Equal(t, "1000", config.Size(1000).String())
}

func TestProvider(t *testing.T) {
	c, err := load(t, "oidc:\n  issuer: http://127.0.0.1:8081\n  client_id: patrol\n  client_secret: hunter2\n  memberships: ['CN=eng,OU=x=acme:member']\n",
		[]string{"PATROL_PUBLIC_URL=https://p.example", "PATROL_OIDC_EMAIL_DOMAINS=a.example, b.example"}, nil)
	require.NoError(t, err)
	got := c.OIDC.ServerConfig()
	require.NoError(t, got.Validate(c.PublicURL.Reveal()))
	assert.Equal(t, []string{"a.example", "b.example"}, got.EmailDomains)
	assert.Equal(t, []identity.GroupMembership{{Group: "CN=eng,OU=x", Domain: "acme", Role: "member"}}, got.Memberships)
	assert.Equal(t, "hunter2", got.ClientSecret.Reveal())
	assert.NotContains(t, fmt.Sprintf("%v %+v %#v", got, got, got), "hunter2")
	assert.Equal(t, identity.DefaultOIDC().MaxAge, got.MaxAge)
}
