package models_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"patrol/models"
)

// ollamaSpellings are the spellings of each name, as Ollama's own rules have them
// (types/model/name.go, internal/modelref). The canonical form comes first.
var ollamaSpellings = [][]string{
	{
		"lab-1", "LAB-1", "lab-1:latest", "lab-1:LATEST", "library/lab-1", "Library/Lab-1:latest",
		"registry.ollama.ai/library/lab-1", "registry.ollama.ai/library/lab-1:latest", "REGISTRY.OLLAMA.AI/LIBRARY/LAB-1:LATEST",
		"https://registry.ollama.ai/library/lab-1:latest", "http://registry.ollama.ai/library/lab-1", "HTTPS://registry.ollama.ai/library/lab-1",
		"any+scheme://registry.ollama.ai/library/lab-1", "http:///library/lab-1", ":///library/lab-1", "a/b/c:///library/lab-1:latest",
		"lab-1:local", "lab-1:LOCAL", "lab-1:latest:local", "library/lab-1:Local",
	},
	{"lab-1:8b", "LAB-1:8B", "library/lab-1:8b", "lab-1:8b:local", "https://registry.ollama.ai/library/lab-1:8B"},
	{"lab-1:q4_k_m", "lab-1:Q4_K_M"},
	{"lab-1:cloud", "LAB-1:CLOUD", "library/lab-1:cloud", "lab-1:latest:cloud", "lab-1:latest-cloud", "lab-1:LATEST-Cloud"},
	{"lab-1:8b-cloud", "lab-1:8b:cloud", "LAB-1:8B-CLOUD", "registry.ollama.ai/library/lab-1:8b-cloud"},
	{"me/lab-1", "Me/Lab-1:latest", "registry.ollama.ai/me/lab-1"},
	{"lab-1_", "LAB-1_"},
	{"_lab.1", "_LAB.1:latest"},
	{"hf.co/library/lab-1", "HF.co/Library/Lab-1:latest", "https://hf.co/library/lab-1"},
	{"hf.co/unsloth/lab-1-gguf:q8_0", "hf.co/Unsloth/Lab-1-GGUF:Q8_0"},
	{"localhost:5000/me/lab-1", "LOCALHOST:5000/me/lab-1:latest"},
	{"localhost:5000/me/lab-1:cloud", "localhost:5000/me/lab-1:latest-cloud"},
	{"registry.ollama.ai:443/library/lab-1"}, // another registry to Ollama
	{"ollama.com/library/lab-1"},
	{"latest", "latest:latest", "LATEST"},
	{"library", "library/library"},
	{"cloud"},
	{"local", "local:latest", "local:local"},
	{"my-cloud"},
	{"host:cloud/me/lab-1"},
	{"https:/library/lab-1", "https:/Library/lab-1:latest"}, // a host with a colon at its end
}

// ollamaNone lists texts that Ollama takes for no name.
var ollamaNone = []string{
	"", ":", "/", "lab-1:", ":latest", "/lab-1", "lab-1/", "library/", "//", "//library/lab-1", "/library/lab-1",
	"https://lab-1", "https://library/lab-1", "a/b/c/lab-1", "registry.ollama.ai/library/team/lab-1",
	"registry.ollama.ai//lab-1", "lab-1:8b:latest", "lab-1@sha256:0123", "lab-1@sha256-0123", "lab-1:8b@x", "@x", "-lab-1", ".lab-1",
	"lab-1:-8b", "lab-1:.8b", "-me/lab-1", "m.e/lab-1", "lab 1", "lab-1!", "lab%2D1", "lab-1?x", "lab-1#x", "lab-1*", "*", "lаb-1",
	"lab-1:cloud:local", "lab-1:local:cloud", "lab-1:cloud:cloud", "lab-1:local:local", "lab-1:8b-cloud-cloud", "lab-1:-cloud", "lab-1::local", "lab-1::cloud", ":local", ":cloud",
	strings.Repeat("a", 81), "lab-1:" + strings.Repeat("a", 81), strings.Repeat("a", 81) + "/lab-1",
}

func TestOllamaNames(t *testing.T) {
	owner := map[string]string{}
	for _, group := range ollamaSpellings {
		for _, spelling := range group {
			name, ok := models.UpstreamOllama.ModelName(spelling)
			require.True(t, ok, spelling)
			assert.Equal(t, group[0], name.Canonical, spelling)
			require.NotContains(t, owner, spelling, "is in two groups")
			owner[spelling] = group[0]
			assertName(t, models.UpstreamOllama, spelling, name)
		}
	}
	for _, text := range ollamaNone {
		_, ok := models.UpstreamOllama.ModelName(text)
		assert.False(t, ok, text)
	}
}

// assertName checks what holds for every name.
func assertName(t require.TestingT, kind models.UpstreamKind, spelling string, name models.ModelName) {
	again, ok := kind.ModelName(name.Canonical)
	require.True(t, ok, "the canonical form of %q is no name: %q", spelling, name.Canonical)
	require.Equal(t, models.ModelName{Canonical: name.Canonical, Forward: name.Canonical, Plain: true}, again, spelling)
	sent, ok := kind.ModelName(name.Forward)
	require.True(t, ok, "what is forwarded for %q is no name: %q", spelling, name.Forward)
	require.Equal(t, models.ModelName{Canonical: name.Canonical, Forward: name.Forward, Plain: true}, sent, spelling)
	require.LessOrEqual(t, len(name.Canonical), len(spelling))
}

func TestOllamaSpellingsThatAreReadInTwoWays(t *testing.T) {
	for spelling, want := range map[string]models.ModelName{
		"x:local":         {Canonical: "x", Forward: "x:latest:local"},
		"X:8b:Local":      {Canonical: "x:8b", Forward: "x:8b:local", Plain: true},
		"x:latest-cloud":  {Canonical: "x:cloud", Forward: "x:cloud"},
		"x:latest:cloud":  {Canonical: "x:cloud", Forward: "x:cloud"},
		"x:8b:cloud":      {Canonical: "x:8b-cloud", Forward: "x:8b-cloud", Plain: true},
		"library/X":       {Canonical: "x", Forward: "x", Plain: true},
		"x:latest":        {Canonical: "x", Forward: "x", Plain: true},
		"h:1/me/x:latest": {Canonical: "h:1/me/x", Forward: "h:1/me/x", Plain: true},
	} {
		name, ok := models.UpstreamOllama.ModelName(spelling)
		require.True(t, ok)
		assert.Equal(t, want, name, spelling)
	}
}

// upstreamName is a name as Ollama's own reader has it: a second implementation, part
// by part and with every default filled in, for names without a source.
type upstreamName struct{ host, namespace, model, tag string }

func (a upstreamName) equal(b upstreamName) bool {
	return strings.EqualFold(a.host, b.host) && strings.EqualFold(a.namespace, b.namespace) &&
		strings.EqualFold(a.model, b.model) && strings.EqualFold(a.tag, b.tag)
}

// TestOllamaEquality draws names part by part, so that what they mean is known, and
// spells each at random.
func TestOllamaEquality(t *testing.T) {
	host := rapid.SampledFrom([]string{"registry.ollama.ai", "hf.co", "localhost:5000"})
	namespace := rapid.SampledFrom([]string{"library", "me", "team_1"})
	model := rapid.SampledFrom([]string{"x", "lab-1", "latest", "library", "local", "cloud", "x-cloud", "_m.1"})
	tag := rapid.SampledFrom([]string{"latest", "8b", "q4_K_M", "v1.0"})
	draw := func(t *rapid.T, label string) (n upstreamName, spelling string) {
		n = upstreamName{host.Draw(t, label+" host"), namespace.Draw(t, label+" namespace"), model.Draw(t, label+" model"), tag.Draw(t, label+" tag")}
		text := n.model
		full := n.host != "registry.ollama.ai" || rapid.Bool().Draw(t, label+" full")
		if full || n.namespace != "library" || rapid.Bool().Draw(t, label+" with namespace") {
			text = n.namespace + "/" + text
		}
		if full {
			text = n.host + "/" + text
			text = rapid.SampledFrom([]string{"", "http://", "https://"}).Draw(t, label+" scheme") + text
		}
		if n.tag != "latest" || rapid.Bool().Draw(t, label+" with tag") {
			text += ":" + n.tag
		}
		return n, strings.Map(func(r rune) rune {
			if rapid.Bool().Draw(t, "upper") {
				return []rune(strings.ToUpper(string(r)))[0]
			}
			return r
		}, text)
	}
	rapid.Check(t, func(t *rapid.T) {
		a, spelledA := draw(t, "a")
		b, spelledB := draw(t, "b")
		nameA, ok := models.UpstreamOllama.ModelName(spelledA)
		require.True(t, ok, spelledA)
		nameB, ok := models.UpstreamOllama.ModelName(spelledB)
		require.True(t, ok, spelledB)
		require.Equal(t, a.equal(b), nameA.Canonical == nameB.Canonical, "%q and %q", spelledA, spelledB)
		require.True(t, nameA.Plain)
	})
}

func FuzzModelName(f *testing.F) {
	for _, group := range ollamaSpellings {
		for _, s := range group {
			f.Add(s)
		}
	}
	for _, s := range ollamaNone {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, kind := range models.UpstreamKinds() {
			if name, ok := kind.ModelName(s); ok {
				assertName(t, kind, s, name)
			}
		}
	})
}

func TestOtherKindsCompareByteForByte(t *testing.T) {
	for _, kind := range []models.UpstreamKind{"", models.UpstreamOpenAI, models.UpstreamVLLM, models.UpstreamLiteLLM} {
		require.True(t, kind.Known())
		for _, s := range []string{"gpt-4o", "GPT-4o", "openai/gpt-4o", "library/x:latest", "ft:gpt-4o:acme::id"} {
			name, ok := kind.ModelName(s)
			assert.True(t, ok)
			assert.Equal(t, models.ModelName{Canonical: s, Forward: s, Plain: true}, name)
		}
		_, ok := kind.ModelName("llama3,secret-model")
		assert.Equal(t, kind != models.UpstreamLiteLLM, ok, "LiteLLM asks each of these models")
	}
	assert.False(t, models.UpstreamKind("Ollama").Known())
	assert.Equal(t, "openai, vllm, litellm, ollama", models.KindList())
}

func TestCanonicalRequests(t *testing.T) {
	for _, c := range []struct {
		kind          models.UpstreamKind
		asked, judged string // "": it is refused
	}{
		{"ollama", "acme:models:LLAMA3:latest:execute", "acme:models:llama3:execute"},
		{"ollama", "acme:models:*:execute", "acme:models:*:execute"},
		{"ollama", "acme:datasets:LLAMA3:latest:read", "acme:datasets:LLAMA3:latest:read"},
		{"ollama", "acme:models:a@b:execute", ""},
		{"ollama", "acme:datasets:a@b:read", "acme:datasets:a@b:read"},
		{"", "acme:models:LLAMA3:latest:execute", "acme:models:LLAMA3:latest:execute"},
		{"vllm", "acme:models:LLAMA3:latest:execute", "acme:models:LLAMA3:latest:execute"},
		{"litellm", "acme:models:a,b:execute", ""},
	} {
		s, err := models.ParseScope(c.asked)
		require.NoError(t, err)
		judged, ok := c.kind.Canonical(models.Request{Domain: s.Domain, EntityType: s.EntityType, Entity: s.Entity, Operation: s.Operation})
		require.Equal(t, c.judged != "", ok, c.asked)
		if ok {
			assert.Equal(t, c.judged, judged.Scope())
		}
	}
}

func TestScopesInForm(t *testing.T) {
	kinds := models.DomainKinds{"oll": models.UpstreamOllama, "exact": "", models.Any: models.UpstreamOllama}
	parse := func(texts ...string) (out []models.Scope) {
		for i, text := range texts {
			s, err := models.ParseScope(text)
			require.NoError(t, err)
			s.ID = string(rune('a' + i))
			out = append(out, s)
		}
		return out
	}
	show := func(scopes []models.Scope) (out []string) {
		for _, s := range scopes {
			out = append(out, s.ID+" "+s.String())
		}
		return out
	}
	for _, c := range []struct {
		name   string
		kind   models.UpstreamKind
		domain string
		stored []string
		want   []string // nil: as stored
	}{
		{
			"each by its own domain", "", "exact",
			[]string{"oll:models:X:latest:execute", "exact:models:X:latest:execute", "rest:models:X:latest:execute", "*:models:X:latest:execute"},
			[]string{"b exact:models:X:latest:execute", "d *:models:X:latest:execute", "a oll:models:x:execute", "c rest:models:x:execute"},
		},
		{
			"any domain by the request's", "ollama", "oll",
			[]string{"*:models:X:latest:execute", "exact:models:X:execute"},
			[]string{"b exact:models:X:execute", "a *:models:x:execute"},
		},
		{"the domain's kind is told", "ollama", "exact", []string{"exact:models:X:execute"}, []string{"a exact:models:x:execute"}},
		{
			"what is in that form comes first", "ollama", "oll",
			[]string{"oll:models:X:execute", "oll:models:x:latest:execute", "oll:models:x:execute"},
			[]string{"c oll:models:x:execute", "a oll:models:x:execute", "b oll:models:x:execute"},
		},
		{
			"all models, other types, and what is no name", "ollama", "oll",
			[]string{"oll:models:*:execute", "oll:datasets:X:read", "oll:models:X@1:execute"},
			nil,
		},
	} {
		stored := parse(c.stored...)
		got, changed := kinds.InForm(stored, c.kind, c.domain)
		assert.Equal(t, c.want != nil, changed, c.name)
		if c.want == nil {
			c.want = show(stored)
		}
		assert.Equal(t, c.want, show(got), c.name)
		assert.Equal(t, c.stored, func() (out []string) {
			for _, s := range stored {
				out = append(out, s.String())
			}
			return out
		}(), "what is stored does not change")
	}
}

func TestAdviceOnScopesThatAreSpelledInAnotherWay(t *testing.T) {
	at := time.Now()
	p := models.PAT{Scopes: []models.Scope{
		{ID: "a", Domain: "acme", EntityType: "models", Entity: "LLAMA3:latest", Operation: "execute"},
		{ID: "b", Domain: "*", EntityType: "models", Entity: "Phi3", Operation: "execute"},
		{ID: "c", Domain: "acme", EntityType: "models", Entity: "Mixtral", Operation: "execute"},
	}}
	advice, needed := models.Advise(p, []models.UsedScope{
		{ScopeID: "a", Domain: "acme", EntityType: "models", Entity: "llama3", Operation: "execute", Count: 1, LastAt: at},
		{ScopeID: "b", Domain: "acme", EntityType: "models", Entity: "phi3", Operation: "execute", Count: 1, LastAt: at},
		{ScopeID: "b", Domain: "beta", EntityType: "models", Entity: "Phi3", Operation: "execute", Count: 1, LastAt: at},
	}, true, 64)
	assert.True(t, advice[0].Keep, "it was used")
	assert.False(t, advice[2].Keep)
	var texts []string
	for _, s := range needed {
		texts = append(texts, s.String())
	}
	assert.Equal(t, []string{"acme:models:LLAMA3:latest:execute", "acme:models:Phi3:execute", "beta:models:Phi3:execute"}, texts, "as they were typed")
}
