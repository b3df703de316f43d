package config

import (
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"patrol/internal/secret"
)

// Print writes the settings as a YAML file, secrets masked.
func (c Config) Print(w io.Writer) error {
	root := &yaml.Node{Kind: yaml.MappingNode}
	nodes := map[string]*yaml.Node{"": root}
	for _, s := range settingsOf(&c) {
		section, name := "", s.Key
		if i := strings.LastIndexByte(s.Key, '.'); i >= 0 {
			section, name = s.Key[:i], s.Key[i+1:]
		}
		if nodes[section] == nil {
			nodes[section] = &yaml.Node{Kind: yaml.MappingNode}
			add(root, section, nodes[section])
		}
		value, err := node(s.value)
		if err != nil {
			return err
		}
		add(nodes[section], name, value)
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return fmt.Errorf("print the settings: %w", err)
	}
	return enc.Close()
}

func node(v reflect.Value) (*yaml.Node, error) {
	out := &yaml.Node{}
	var plain any
	switch value := v.Interface().(type) {
	case time.Duration, Size, secret.Text, URL:
		plain = render(v)
	case map[string]Upstream:
		return upstreamsNode(value), nil
	default:
		plain = value
	}
	if err := out.Encode(plain); err != nil {
		return nil, fmt.Errorf("print the settings: %w", err)
	}
	if out.Kind == yaml.SequenceNode && len(out.Content) == 0 {
		out.Style = yaml.FlowStyle
	}
	return out, nil
}

func upstreamsNode(upstreams map[string]Upstream) *yaml.Node {
	all := &yaml.Node{Kind: yaml.MappingNode}
	for _, name := range sortedKeys(upstreams) {
		u, one := upstreams[name], &yaml.Node{Kind: yaml.MappingNode}
		if u.URL != "" {
			add(one, "url", text(u.URL.String()))
		}
		if u.Kind != "" {
			add(one, "kind", text(u.Kind))
		}
		if len(u.Headers) > 0 {
			headers := &yaml.Node{Kind: yaml.MappingNode}
			for _, h := range sortedKeys(u.Headers) {
				add(headers, h, text(u.Headers[h].String()))
			}
			add(one, "headers", headers)
		}
		if u.Credential != "" {
			add(one, "credential", text(u.Credential.String()))
		}
		if u.CredentialHeader != "" {
			add(one, "credential_header", text(u.CredentialHeader))
		}
		add(all, name, one)
	}
	if len(all.Content) == 0 {
		all.Style = yaml.FlowStyle
	}
	return all
}

func text(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	if s == "" || strings.HasPrefix(s, "*") {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}

func add(mapping *yaml.Node, key string, value *yaml.Node) {
	mapping.Content = append(mapping.Content, text(key), value)
}
