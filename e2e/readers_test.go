package e2e_test

import (
	"bytes"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"unicode"
)

// reader is a kind of upstream: what it would serve for a request, as the names of models and of
// what else a client chooses by it, such as an address. Each is written from the rules of the
// server that it is named after, and is generous where these leave a choice.
type reader struct {
	name  string
	reads func(seen) []string
}

// seen is a request as it reached an upstream.
type seen struct {
	method   string
	segments []string // without /proxy/<domain>
	query    url.Values
	header   http.Header
	media    string // of the Content-Type
	json     []field
	form     url.Values // of the body
	first    url.Values // of a multipart form, the query's values before the body's: Go's FormValue
}

// field is a member of a JSON object, in its place.
type field struct {
	name  string
	value any
}

// look takes a request apart, as far as every server does that in the same way.
func look(a arrival) seen {
	u, err := url.Parse("http://upstream" + a.target)
	if err != nil {
		return seen{}
	}
	s := seen{method: a.method, query: u.Query(), header: a.header, form: url.Values{}}
	for segment := range strings.SplitSeq(u.Path, "/") {
		if segment != "" {
			s.segments = append(s.segments, segment)
		}
	}
	if len(s.segments) > 1 && s.segments[0] == "proxy" {
		s.segments = s.segments[2:]
	}
	said := strings.Join(a.header["Content-Type"], ", ")
	var params map[string]string
	s.media, params, _ = mime.ParseMediaType(said)
	if s.media == "" {
		s.media, _, _ = strings.Cut(strings.ToLower(said), ";")
		s.media = strings.TrimSpace(s.media)
	}
	s.json = objectOf([]byte(a.body))
	switch {
	case strings.Contains(strings.ToLower(said), "form") && params["boundary"] == "": // as some look for the word
		s.form, _ = url.ParseQuery(a.body)
	case params["boundary"] != "":
		s.form = partsOf(a.body, params["boundary"])
	}
	s.first = url.Values{}
	for _, from := range []url.Values{s.query, s.form} {
		for name, values := range from {
			s.first[name] = append(s.first[name], values...)
		}
	}
	return s
}

// objectOf reads a JSON object with all of its members, also those that are there twice.
func objectOf(content []byte) (fields []field) {
	dec := json.NewDecoder(bytes.NewReader(content))
	if token, err := dec.Token(); err != nil || token != json.Delim('{') {
		return nil
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return fields
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return fields
		}
		text, _ := name.(string)
		fields = append(fields, field{text, valueOf(value)})
	}
	return fields
}

// valueOf is a value in which objects keep all of their members.
func valueOf(raw json.RawMessage) any {
	switch trimmed := bytes.TrimSpace(raw); {
	case bytes.HasPrefix(trimmed, []byte("{")):
		return objectOf(trimmed)
	case bytes.HasPrefix(trimmed, []byte("[")):
		var list []json.RawMessage
		_ = json.Unmarshal(trimmed, &list)
		out := make([]any, len(list))
		for i, element := range list {
			out[i] = valueOf(element)
		}
		return out
	}
	var value any
	_ = json.Unmarshal(raw, &value)
	return value
}

func partsOf(body, boundary string) url.Values {
	values := url.Values{}
	r := multipart.NewReader(strings.NewReader(body), boundary)
	for {
		part, err := r.NextPart()
		if err != nil {
			return values
		}
		content, _ := io.ReadAll(part)
		values.Add(part.FormName(), string(content))
	}
}

// texts are all strings in a value, with the names of members that are no setting.
func texts(value any) (all []string) {
	switch value := value.(type) {
	case string:
		if value != "" {
			all = append(all, value)
		}
	case []any:
		for _, element := range value {
			all = append(all, texts(element)...)
		}
	case []field:
		for _, f := range value {
			switch f.name {
			case "id", "type", "name": // of tools, plugins
			default:
				all = append(all, texts(f.value)...)
			}
		}
	case float64:
		all = append(all, "a number")
	}
	return all
}

// exact, folded and loose are how servers compare names.
func exact(name string) string { return name }

func folded(name string) string { return strings.ToLower(strings.ToUpper(name)) }

// loose is a reader that ignores case and signs, and what may be an index.
func loose(name string) string {
	name, _, _ = strings.Cut(name, "\x00")
	if at := strings.IndexAny(name, "[."); at > 0 {
		name = name[:at]
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, name)
}

// in returns what the last, or the first, of the body's members of a name says.
func (s seen) in(like func(string) string, last bool, names ...string) (found []string) {
	for _, name := range names {
		var value any
		for _, f := range s.json {
			if like(f.name) == like(name) && (last || value == nil) {
				value = f.value
			}
		}
		found = append(found, texts(value)...)
	}
	return found
}

// member returns what members of objects in a list say.
func (s seen) member(like func(string) string, list string, names ...string) (found []string) {
	for _, f := range s.json {
		elements, _ := f.value.([]any)
		if like(f.name) != like(list) {
			continue
		}
		for _, element := range elements {
			object, _ := element.([]field)
			for _, m := range object {
				for _, name := range names {
					if like(m.name) == like(name) {
						found = append(found, texts(m.value)...)
					}
				}
			}
		}
	}
	return found
}

// deep returns what is at a path of exact names, in all objects of the lists on the way.
func deep(value any, path ...string) (found []string) {
	if len(path) == 0 {
		return texts(value)
	}
	switch value := value.(type) {
	case []any:
		for _, element := range value {
			found = append(found, deep(element, path...)...)
		}
	case []field:
		for _, f := range value {
			if f.name == path[0] {
				found = append(found, deep(f.value, path[1:]...)...)
			}
		}
	}
	return found
}

// of returns the values of parameters of these names.
func of(values url.Values, like func(string) string, names ...string) (found []string) {
	for parameter, all := range values {
		for _, name := range names {
			if like(parameter) == like(name) {
				found = append(found, all...)
			}
		}
	}
	return found
}

func (s seen) path() string { return "/" + strings.Join(s.segments, "/") }

// deployment returns what stands between two parts of a path.
func (s seen) between(before string, after ...string) (found []string) {
	_, rest, ok := strings.Cut(s.path(), before)
	if !ok {
		return nil
	}
	for _, end := range after {
		if name, _, ok := strings.Cut(rest, end); ok {
			return []string{name}
		}
	}
	return nil
}

var readers = []reader{
	{"openai", func(s seen) []string {
		model := append(s.in(exact, true, "model"), of(s.form, exact, "model")...)
		return append(append(model, s.member(exact, "tools", "model")...), s.between("/v1/models/", ":generateContent")...)
	}},
	{"openai, the first of two", func(s seen) []string { return s.in(exact, false, "model") }},
	{"vllm", func(s seen) []string {
		return append(s.in(exact, true, "model", "lora_name", "base_model_name", "kv_transfer_params"), of(s.form, exact, "model")...)
	}},
	{"sglang, llama.cpp, lorax", func(s seen) []string {
		adapters := s.in(exact, true, "lora", "adapter_id", "speculative_model", "draft_model")
		if s.path() == "/v1/load_lora_adapter" {
			return adapters
		}
		return append(adapters, s.in(exact, true, "lora_path")...)
	}},
	{"litellm", func(s seen) []string {
		chosen := s.between("/engines/", "/chat/completions", "/completions", "/embeddings")
		chosen = append(chosen, s.between("/openai/deployments/", "/chat/completions", "/completions", "/embeddings")...)
		chosen = append(chosen, s.query["model"]...)
		chosen = append(chosen, s.header["X-Litellm-Model"]...)
		names := []string{
			"model", "models", "fallbacks", "context_window_fallbacks", "content_policy_fallbacks", "context_window_fallback_dict", "model_list", "user_config",
			"router_settings_override", "extra_body", "extra_headers", "extra_query", "litellm_params", "deployment_id", "base_model", "hf_model_name", "silent_model",
			"prompt_id", "custom_llm_provider", "litellm_credential_name", "target_model_names", "api_base", "base_url", "model_id",
		}
		if s.media == "application/x-www-form-urlencoded" || s.media == "multipart/form-data" {
			chosen = append(chosen, of(s.form, exact, names...)...)
		} else {
			chosen = append(chosen, s.in(exact, true, names...)...)
		}
		var all []string
		for _, name := range chosen {
			for model := range strings.SplitSeq(name, ",") {
				all = append(all, strings.TrimSpace(model))
			}
		}
		return all
	}},
	{"ollama", func(s seen) []string {
		switch s.path() {
		case "/api/create":
			return s.in(folded, true, "model", "name", "from", "remote_host", "files", "draft_files", "adapters", "modelfile")
		case "/api/copy":
			return s.in(folded, true, "source", "destination")
		case "/v1/audio/transcriptions":
			if all := s.first["model"]; len(all) > 0 {
				return all[:1]
			}
			return nil
		}
		return s.in(folded, true, "model", "name", "remote_host", "remote_model")
	}},
	{"openrouter", func(s seen) []string {
		return append(s.in(exact, true, "model", "models", "preset"), append(s.member(exact, "plugins", "model", "analysis_models"), append(deep(s.json, "tools", "parameters", "model"), deep(s.json, "tools", "parameters", "analysis_models")...)...)...)
	}},
	{"vercel", func(s seen) []string {
		return append(s.in(exact, true, "model", "models"), deep(s.json, "providerOptions", "gateway", "models")...)
	}},
	{"azure, with agents", func(s seen) (chosen []string) { // whose models are not the request's
		for _, agent := range []string{"agent", "agent_reference"} {
			chosen = append(chosen, deep(s.json, agent, "name")...)
		}
		return chosen
	}},
	{"groq, tensorzero", func(s seen) []string { return s.in(exact, true, "compound_custom", "tensorzero::model_name") }},
	{"azure", func(s seen) []string {
		chosen := append(s.between("/openai/deployments/", "/"), s.in(exact, true, "model", "deployment_id", "engine", "data_sources")...)
		chosen = append(chosen, of(s.query, exact, "deployment", "deployment_id", "engine")...)
		return append(append(chosen, s.header["Azureml-Model-Deployment"]...), s.header["X-Ms-Deployment"]...)
	}},
	{"php", func(s seen) []string {
		// $_REQUEST, then what json_decode makes of the body. A leading blank is dropped, and a
		// name ends at a bracket.
		like := func(name string) string {
			name, _, _ = strings.Cut(strings.TrimLeft(name, " "), "[")
			return name
		}
		return append(append(of(s.query, like, "model", "models", "fallbacks", "api_base"), of(s.form, like, "model", "model_list", "fallbacks")...), s.in(like, true, "model", "models", "fallbacks")...)
	}},
	{"ignores case and signs", func(s seen) []string {
		names := []string{
			"model", "models", "model_id", "model_name", "deployment", "deployment_id", "engine", "fallbacks", "model_list", "base_model", "api_base", "target_model_names", "remote_host", "remote_model",
		}
		chosen := append(of(s.query, loose, names...), of(s.form, loose, names...)...)
		chosen = append(chosen, s.in(loose, true, append(names, "from")...)...)
		chosen = append(chosen, s.member(loose, "tools", "model")...)
		return append(append(chosen, s.member(loose, "models", "model", "id")...), s.in(loose, true, "source")...)
	}},
	{"the first of two, ignoring case and signs", func(s seen) []string { return s.in(loose, false, "model", "models", "fallbacks", "from", "source") }},
	{"goes by headers", func(s seen) (chosen []string) {
		for name, values := range s.header {
			switch name := loose(name); {
			case name == "secchuamodel":
			case strings.Contains(name, "model"), strings.Contains(name, "deployment"), strings.Contains(name, "fallback"), strings.Contains(name, "target"),
				strings.HasPrefix(name, "xportkey"), strings.Contains(name, "apibase"), strings.HasSuffix(name, "hostport"), strings.Contains(name, "component"),
				strings.Contains(name, "destination"), strings.HasPrefix(name, "nvcf"), strings.HasPrefix(name, "xbtendpoint"):
				chosen = append(chosen, values...)
			}
		}
		return chosen
	}},
	{"goes by paths", func(s seen) (chosen []string) {
		switch {
		case strings.HasPrefix(s.path(), "/v1/models/"):
			return append(of(s.query, loose, "model"), strings.Join(s.segments[2:], "/"))
		case strings.Contains(s.path(), "/secret"):
			return []string{"secret"}
		}
		return nil
	}},
}
