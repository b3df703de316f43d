package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/policies"
)

// withheld are the built-in functions that no policy may call, besides those that
// OPA marks nondeterministic, with the reason. Prefixes end in a star.
var withheld = map[string]string{
	"http.send":            "reaches the network",
	"net.lookup_ip_addr":   "reaches the network",
	"opa.runtime":          "reads the environment, secrets included",
	"rego.parse_module":    "code as data has no place in a decision",
	"time.now_ns":          "input.now is the only clock",
	"rand.intn":            "draws random numbers",
	"uuid.rfc4122":         "draws random numbers",
	"json.match_schema":    "may follow references over the network",
	"json.verify_schema":   "may follow references over the network",
	"io.jwt.decode_verify": "reads the clock",
	"io.jwt.encode_sign*":  "draws random numbers",
	"crypto.x509.parse_and_verify_certificates*": "reads the clock and the system's certificates",
	"providers.aws.sign_req":                     "there is nothing to sign requests for",
}

func isWithheld(b *ast.Builtin) bool {
	if b.IsNondeterministic() {
		return true
	}
	for pattern := range withheld {
		prefix, star := strings.CutSuffix(pattern, "*")
		if b.Name == pattern || star && strings.HasPrefix(b.Name, prefix) {
			return true
		}
	}
	return false
}

// Capabilities returns what policies/capabilities.json must be for the version of
// OPA that is compiled in: everything that OPA can do but for the built-in
// functions that would make a decision depend on more than its input.
func Capabilities() *ast.Capabilities {
	c := *ast.CapabilitiesForThisVersion()
	builtins := make([]*ast.Builtin, 0, len(c.Builtins))
	for _, b := range c.Builtins {
		if !isWithheld(b) {
			builtins = append(builtins, b.Minimal())
		}
	}
	c.Builtins = builtins
	c.AllowNet = []string{}
	return &c
}

// FormatCapabilities writes c as a file of OPA's format, with one built-in
// function a line. Unlike OPA's own encoder it writes an empty allow_net, which
// permits no host at all where a missing one permits any.
func FormatCapabilities(c *ast.Capabilities) ([]byte, error) {
	content, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(content, &fields); err != nil {
		return nil, err
	}
	if fields["allow_net"], err = json.Marshal(c.AllowNet); err != nil {
		return nil, err
	}
	lines := make([]string, len(c.Builtins))
	for i, b := range c.Builtins {
		line, err := json.Marshal(b)
		if err != nil {
			return nil, err
		}
		lines[i] = "    " + string(line)
	}
	delete(fields, "builtins")
	var out bytes.Buffer
	out.WriteString("{\n")
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		fmt.Fprintf(&out, "  %q: %s,\n", name, fields[name])
	}
	fmt.Fprintf(&out, "  \"builtins\": [\n%s\n  ]\n}\n", strings.Join(lines, ",\n"))
	return out.Bytes(), nil
}

// enforced is the list in policies/capabilities.json.
var enforced = sync.OnceValues(func() (*ast.Capabilities, error) {
	return parseCapabilities(policies.Capabilities)
})

func parseCapabilities(content []byte) (*ast.Capabilities, error) {
	c, err := ast.LoadCapabilitiesJSON(bytes.NewReader(content))
	if err != nil {
		return nil, at(capabilitiesFile, err)
	}
	return c, nil
}

// CapabilitiesFor returns what a bundle may use: what is enforced, less what the
// bundle's own list leaves out. A bundle can tie its hands, not free them.
func CapabilitiesFor(own *ast.Capabilities) (*ast.Capabilities, error) {
	all, err := enforced()
	if err != nil || own == nil {
		return all, err
	}
	for _, b := range own.Builtins {
		if !all.ContainsBuiltin(b.Name) {
			return nil, at(capabilitiesFile, fmt.Errorf("%s is not available to policies here", b.Name))
		}
	}
	narrowed := *all
	narrowed.Builtins = slices.DeleteFunc(slices.Clone(all.Builtins), func(b *ast.Builtin) bool {
		return !own.ContainsBuiltin(b.Name)
	})
	return &narrowed, nil
}
