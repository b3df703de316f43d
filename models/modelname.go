package models

import (
	"cmp"
	"slices"
	"strings"
)

// UpstreamKind is a kind of service behind a domain, as far as it matters for the
// names of models: which spellings it takes for one name. The empty kind, which is
// the default, compares names byte for byte.
type UpstreamKind string

// The kinds of upstreams. OpenAI and vLLM compare names byte for byte. LiteLLM does
// too, save that a comma separates several models, so that a name with one is none.
// Ollama has many spellings for a name, see [UpstreamKind.ModelName].
const (
	UpstreamOpenAI  UpstreamKind = "openai"
	UpstreamVLLM    UpstreamKind = "vllm"
	UpstreamLiteLLM UpstreamKind = "litellm"
	UpstreamOllama  UpstreamKind = "ollama"
)

// UpstreamKinds lists the kinds that can be configured.
func UpstreamKinds() []UpstreamKind {
	return []UpstreamKind{UpstreamOpenAI, UpstreamVLLM, UpstreamLiteLLM, UpstreamOllama}
}

// Known reports whether k is the empty kind or one of [UpstreamKinds].
func (k UpstreamKind) Known() bool { return k == "" || slices.Contains(UpstreamKinds(), k) }

// KindList names the kinds that can be configured, for messages about others.
func KindList() string {
	names := make([]string, 0, len(UpstreamKinds()))
	for _, k := range UpstreamKinds() {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

// DomainKinds are the kinds of upstreams by domain; [Any] stands for every domain
// that is not listed.
type DomainKinds map[string]UpstreamKind

// Of returns the kind of a domain's upstream.
func (d DomainKinds) Of(domain string) UpstreamKind {
	if k, ok := d[domain]; ok {
		return k
	}
	return d[Any]
}

// Kinds returns the names of the kinds in d, each once and in order.
func (d DomainKinds) Kinds() []string {
	var kinds []string
	for _, k := range d {
		if k != "" && !slices.Contains(kinds, string(k)) {
			kinds = append(kinds, string(k))
		}
	}
	slices.Sort(kinds)
	return kinds
}

// TypeModels is the entity type whose entities are names of models.
const TypeModels = "models"

// ModelName is the meaning of one spelling of a model's name to a kind of upstream.
type ModelName struct {
	// Canonical is the one form that stands for all spellings of the name. It is
	// what is judged.
	Canonical string
	// Forward is the spelling in which the name is sent on. Every version and every
	// route of the upstream reads it as Canonical, or refuses it.
	Forward string
	// Plain says that the same is true of the spelling that was read.
	Plain bool
}

// ModelName reads one spelling of a model's name. ok is false if an upstream of this
// kind has no such name, or takes it for several. Canonical and Forward are names
// themselves, which mean the same, and are no longer than spelling, but for Forward
// of names with a source (see ollama.go).
func (k UpstreamKind) ModelName(spelling string) (name ModelName, ok bool) {
	switch k {
	case UpstreamOllama:
		return ollamaName(spelling)
	case UpstreamLiteLLM:
		if strings.ContainsRune(spelling, ',') {
			return ModelName{}, false
		}
	}
	return ModelName{Canonical: spelling, Forward: spelling, Plain: true}, true
}

// Canonical returns the request as it is judged where the upstream is of this kind.
// ok is false if its entity is a model that such an upstream cannot have.
func (k UpstreamKind) Canonical(r Request) (canonical Request, ok bool) {
	if k == "" || r.EntityType != TypeModels || r.Entity == Any {
		return r, true
	}
	name, ok := k.ModelName(r.Entity)
	if !ok {
		return r, false
	}
	r.Entity = name.Canonical
	return r, true
}

// entity returns the canonical form of a scope's entity; what is no name stays as it
// is, where no request meets it.
func (k UpstreamKind) entity(s Scope) string {
	r, _ := k.Canonical(Request{EntityType: s.EntityType, Entity: s.Entity})
	return r.Entity
}

// InForm returns the scopes with the names of models in canonical form, each by the
// kind of its own domain. Scopes for any domain get the form of kind, which is that
// of the request to be judged, as do those for domain, where it is asked for. So a
// scope means what it says in every domain that it reaches. Of scopes that become
// the same, those that were written in this form come first, then the earlier ones.
// changed is false if all are in that form.
func (d DomainKinds) InForm(scopes []Scope, kind UpstreamKind, domain string) (in []Scope, changed bool) {
	form := func(s Scope) string {
		switch s.Domain {
		case Any, domain:
			return kind.entity(s)
		}
		return d.Of(s.Domain).entity(s)
	}
	if !slices.ContainsFunc(scopes, func(s Scope) bool { return form(s) != s.Entity }) {
		return scopes, false
	}
	in = make([]Scope, 0, len(scopes))
	for _, s := range scopes {
		if form(s) == s.Entity {
			in = append(in, s)
		}
	}
	for _, s := range scopes {
		if e := form(s); e != s.Entity {
			s.Entity = e
			in = append(in, s)
		}
	}
	return in, true
}

// The parts of a name that Ollama adds where a spelling leaves them out.
const (
	ollamaHost      = "registry.ollama.ai"
	ollamaNamespace = "library"
	ollamaTag       = "latest"
)

// ollamaSource is the place where, by its spelling, a model has to run: `:local` and
// `:cloud` behind the name, or `-cloud` behind its tag.
type ollamaSource int

const (
	anySource ollamaSource = iota
	localSource
	cloudSource
)

// ollamaName reads a name the way Ollama does (types/model/name.go and
// internal/modelref of its source): `[scheme://host/][namespace/]model[:tag]`, in any
// case, with defaults for what is left out, and with a source behind it.
//
// The scheme is the registry's and no part of the name. A model of the cloud is
// another one than the local model of the same name, and `x:latest-cloud` is
// `x:cloud`. `x:local` is x, if it runs here; but the routes that create, copy and
// push take it, as older versions do everywhere, for the tag `local`. So it is not
// plain, and is forwarded as `x:latest:local`, which is that or nothing to all of
// them, and keeps the promise that the prompt stays here.
func ollamaName(spelling string) (ModelName, bool) {
	if isOllamaCanonical(spelling) {
		return ModelName{Canonical: spelling, Forward: spelling, Plain: true}, true
	}
	base, source := cutOllamaSource(spelling)
	if source != anySource {
		if _, again := cutOllamaSource(base); again != anySource {
			return ModelName{}, false
		}
	}
	tagged := strings.LastIndexByte(base, ':') > strings.LastIndexByte(base, '/')
	n, ok := parseOllamaName(base)
	if !ok {
		return ModelName{}, false
	}
	path, tag := n.path(), n.tag
	name := ModelName{Canonical: path, Plain: true}
	if tag != ollamaTag {
		name.Canonical += ":" + tag
	}
	name.Forward = name.Canonical
	switch source {
	case localSource:
		name.Forward = path + ":" + tag + ":local"
		name.Plain = tagged // otherwise the source stands where a tag may
	case cloudSource:
		if tag == ollamaTag {
			name.Canonical, name.Plain = path+":cloud", !tagged
		} else {
			name.Canonical = path + ":" + tag + "-cloud"
		}
		name.Forward = name.Canonical
	}
	return name, true
}

// isOllamaCanonical tells the common case without taking memory: a model, with a tag
// or without, in lower case. Whatever it does not know is read in full.
func isOllamaCanonical(s string) bool {
	model, tag, tagged := strings.Cut(s, ":")
	return isOllamaPart(model, "-_.") && lower(model) &&
		(!tagged || isOllamaPart(tag, "-_.") && lower(tag) && tag != ollamaTag && tag != "local" && tag != "cloud" && !strings.HasSuffix(tag, "-cloud"))
}

func lower(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return 'A' <= r && r <= 'Z' })
}

// cutOllamaSource takes the source off a spelling.
func cutOllamaSource(s string) (base string, source ollamaSource) {
	at := strings.LastIndexByte(s, ':')
	if at < 0 {
		return s, anySource
	}
	suffix := s[at+1:]
	const legacy = "-cloud"
	switch {
	case strings.EqualFold(suffix, "cloud"):
		return s[:at], cloudSource
	case strings.EqualFold(suffix, "local"):
		return s[:at], localSource
	case !strings.Contains(suffix, "/") && len(suffix) >= len(legacy) && strings.EqualFold(suffix[len(suffix)-len(legacy):], legacy):
		return s[:len(s)-len(legacy)], cloudSource
	}
	return s, anySource
}

// ollamaParts are the parts of a name without a source, in lower case.
type ollamaParts struct{ host, namespace, model, tag string }

// path is the name without its tag, and without what Ollama adds by itself. A
// namespace stays where the host does: in front of it nothing may be missing.
func (n ollamaParts) path() string {
	switch {
	case n.host != ollamaHost:
		return n.host + "/" + n.namespace + "/" + n.model
	case n.namespace != ollamaNamespace:
		return n.namespace + "/" + n.model
	}
	return n.model
}

func parseOllamaName(s string) (n ollamaParts, ok bool) {
	// A part whose separator is there must not be empty.
	if at := strings.LastIndexByte(s, ':'); at > strings.LastIndexByte(s, '/') {
		if n.tag = s[at+1:]; n.tag == "" {
			return n, false
		}
		s = s[:at]
	}
	rest, model, more := cutLast(s, '/')
	n.model = model
	if more {
		rest, n.namespace, more = cutLast(rest, '/')
		if n.namespace == "" {
			return n, false
		}
	}
	if more {
		if rest == "" {
			return n, false
		}
		_, host, hasScheme := strings.Cut(rest, "://")
		if !hasScheme {
			host = rest
		}
		n.host = host // may be empty behind a scheme
	}
	n.host = strings.ToLower(cmp.Or(n.host, ollamaHost))
	n.namespace = strings.ToLower(cmp.Or(n.namespace, ollamaNamespace))
	n.model = strings.ToLower(n.model)
	n.tag = strings.ToLower(cmp.Or(n.tag, ollamaTag))
	return n, len(n.host) <= 350 && isOllamaChars(n.host, "-_.:") &&
		isOllamaPart(n.namespace, "-_") && isOllamaPart(n.model, "-_.") && isOllamaPart(n.tag, "-_.")
}

// cutLast cuts s at the last sep. Without one, all of s is after.
func cutLast(s string, sep byte) (before, after string, found bool) {
	at := strings.LastIndexByte(s, sep)
	if at < 0 {
		return "", s, false
	}
	return s[:at], s[at+1:], true
}

func isOllamaPart(s, also string) bool { return len(s) <= 80 && isOllamaChars(s, also) }

// isOllamaChars reports whether s consists of letters, digits and what is in also,
// a letter, digit or underscore first.
func isOllamaChars(s, also string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_':
		case i > 0 && strings.IndexByte(also, c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}
