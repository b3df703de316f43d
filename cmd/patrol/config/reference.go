package config

import (
	"fmt"
	"io"
	"strings"
)

const referenceIntro = `# Configuration

<!-- Written by "patrol config --reference". Edit the struct tags in cmd/patrol/config instead. -->

A setting is looked for in this order: flag, environment variable, settings file, default. The file is YAML and is named by
` + "`--config` or `PATROL_CONFIG`" + `; a dot in a key below is a level of nesting there. Nothing is read from a default place.

- A key or ` + "`PATROL_*`" + ` variable that does not exist is refused by name, and all mistakes are reported at once. An environment variable that is set to
  nothing counts as absent.
- Secrets can be kept in files: append ` + "`_file`" + ` to the key, or ` + "`_FILE`" + ` to the variable, and give a path. A line break at the end of the file is not part of the secret.
- Durations are written ` + "`30d`, `12h`, `1h30m`, `90s` or `P30D`; sizes `64KiB`, `16MiB` or in bytes; lists in the environment with commas" + `.
- ` + "`patrol config`" + ` prints what is in force, secrets masked.
- ` + "`PATROL_SERVER`, `PATROL_CREDENTIALS` and `PATROL_TOKEN`" + ` belong to the client commands (` + "`patrol login --help`" + `). Variables that Kubernetes
  makes for a Service named patrol (` + "`PATROL_SERVICE_HOST`, `PATROL_PORT_8080_TCP`" + `, …) are passed over.
`

const referenceUpstreams = `## upstreams

What each domain's requests under ` + "`/proxy/<domain>/`" + ` are sent to, in the settings file only. The key is a domain id, or ` + "`\"*\"`" + ` for every other domain;
` + "`upstream`, `upstream_kind` and `upstream_credential` take the place of `upstreams.*.url`, `upstreams.*.kind` and `upstreams.*.credential`" + `.

| key | meaning |
| --- | --- |
| ` + "`url`" + ` | Base URL. Required, unless all that is said is the kind of the upstream. |
| ` + "`kind`" + ` | What kind of service it is: ` + "`openai`, `vllm`, `litellm` or `ollama`" + `. Without it, names of models are compared byte for byte; it is not taken over from ` + "`upstream_kind`" + `. |
| ` + "`headers`" + ` | Mapping of headers to set on every request. |
| ` + "`credential`, `credential_file`" + ` | Value to send in place of the caller's token, such as ` + "`Bearer sk-…`" + `. |
| ` + "`credential_header`" + ` | Header for the credential. Default ` + "`Authorization`" + `. |

` + "```yaml" + `
upstreams:
  "*":
    url: http://127.0.0.1:11434
    kind: ollama
  acme:
    url: https://models.example.com/v1-gateway
    credential_file: /run/secrets/acme-models
    credential_header: X-Api-Key
    headers:
      X-Team: acme
` + "```" + `
`

// Reference writes the page docs/configuration.md.
func Reference(w io.Writer) error {
	var b strings.Builder
	b.WriteString(referenceIntro)
	keys, docs := sections()
	bySection := map[string][]Setting{}
	for _, s := range Settings() {
		section, _, ok := strings.Cut(s.Key, ".")
		if !ok {
			section = ""
		}
		bySection[section] = append(bySection[section], s)
	}
	b.WriteString("\n## Shared settings\n\n")
	table(&b, bySection[""])
	b.WriteString("\n" + referenceUpstreams)
	for _, key := range keys {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", key, docs[key])
		table(&b, bySection[key])
	}
	_, err := io.WriteString(w, wrapProse(b.String()))
	return err
}

func table(b *strings.Builder, settings []Setting) {
	b.WriteString("| key | flag | environment | default | meaning |\n| --- | --- | --- | --- | --- |\n")
	for _, s := range settings {
		flag := ""
		if s.Flag != "" {
			flag = "--" + s.Flag
		}
		doc := s.Doc
		if s.Secret {
			doc += " Secret."
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", s.Key, code(flag), code(s.Env()), code(s.Default), cell(doc))
	}
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

// cell escapes what would end a table's cell or be taken for HTML.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", ">", "&gt;").Replace(s)
}

func firstSentence(doc string) string {
	if i := strings.Index(doc, ". "); i >= 0 {
		return doc[:i+1]
	}
	return doc
}
