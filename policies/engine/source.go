package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"
	"sigs.k8s.io/yaml"

	"patrol/policies"
)

// Source is a policy bundle as it was read, before anything in it is understood.
// Package bundles hands it over.
type Source struct {
	// Name says in messages where the bundle comes from, such as a folder's path.
	Name string
	// Files are the bundle's files by slash-separated path relative to its root.
	// [Load] looks at those that take part in evaluation, see [IsPolicyFile], and
	// package workbench at the tests as well, see [IsTestFile]. Others are passed over.
	Files map[string][]byte
	// Waive are the invariants that the server lets its policies waive, see
	// [WaivableCodes]. What a policy waives is what its manifest names as well.
	Waive []string
}

// The names of a bundle's files, as OPA has them.
const (
	ManifestFile     = ".manifest"
	capabilitiesFile = "capabilities.json"
	Root             = "patrol" // the only part of data that a bundle may define
)

// IsPolicyFile reports whether a file of a bundle, named by its path in it, takes
// part in evaluation: the manifest, the modules but for tests, the data
// documents, and a capabilities.json at the top. It also reports those that OPA
// would let take part and [Load] refuses.
func IsPolicyFile(name string) bool {
	return name == ManifestFile || name == capabilitiesFile ||
		isModule(name) || isData(name) || slices.Contains(unsupported, path.Base(name))
}

// IsTestFile reports whether a file of a bundle, named by its path in it, holds
// tests. Tests are part of a check and never of a policy in force.
func IsTestFile(name string) bool { return strings.HasSuffix(name, "_test.rego") }

func isModule(name string) bool {
	return strings.HasSuffix(name, ".rego") && !IsTestFile(name)
}

func isData(name string) bool {
	switch path.Base(name) {
	case "data.json", "data.yaml", "data.yml":
		return true
	}
	return false
}

// unsupported are parts of OPA bundles that would be evaluated, or change what
// is evaluated, without having been checked here.
var unsupported = []string{"policy.wasm", "plan.json", "patch.json", ".manifest.pb"}

// Bundle is a source, parsed and not yet compiled.
type Bundle struct {
	Revision     string
	Modules      map[string]*ast.Module
	Data         map[string]any
	Documents    map[string][]byte // what data is from, by file
	Capabilities *ast.Capabilities // nil if it brings none but those that are enforced
	Waivers      []string          // what the manifest waives, as it is written there
	waives       breach
}

// manifest holds the permitted members of a bundle's .manifest.
type manifest struct {
	Revision    string         `json:"revision"`
	Roots       *[]string      `json:"roots"`
	RegoVersion *int           `json:"rego_version"`
	Metadata    map[string]any `json:"metadata"`
}

// Parse reads the files. All errors that it finds are reported, each with the
// file, and the line where there is one.
func (src Source) Parse() (*Bundle, error) {
	b := &Bundle{Modules: map[string]*ast.Module{}, Data: map[string]any{}, Documents: map[string][]byte{}}
	var errs []error
	m, err := src.manifest()
	if err != nil {
		errs = append(errs, err)
	}
	for _, name := range slices.Sorted(maps.Keys(src.Files)) {
		content := src.Files[name]
		switch {
		case slices.Contains(unsupported, path.Base(name)):
			err = at(name, errors.New("bundles with such files are not supported, only Rego modules and data documents are"))
		case isModule(name):
			b.Modules[name], err = ParseModule(name, content)
		case isData(name):
			err = b.addData(name, content)
		case name == capabilitiesFile:
			// Most bundles bring those that are enforced, and reading them takes a quarter of loading.
			if !bytes.Equal(content, policies.Capabilities) {
				b.Capabilities, err = parseCapabilities(content)
			}
		default:
			continue
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	b.Waivers, _ = manifestWaivers(m) // which were looked at when it was read
	b.waives, _ = readWaivers(b.Waivers)
	permitted, _ := readWaivers(src.Waive)
	b.waives &= permitted
	if b.Revision = m.Revision; b.Revision == "" {
		b.Revision = src.Digest()
	}
	return b, nil
}

// ParseModule reads a module and sees to it that it stays inside the root.
func ParseModule(name string, content []byte) (*ast.Module, error) {
	m, err := ast.ParseModuleWithOpts(name, string(content), ast.ParserOptions{
		ProcessAnnotation: true, RegoVersion: ast.RegoV1,
	})
	if err != nil {
		return nil, err
	}
	return m, checkPackage(m)
}

func (src Source) manifest() (m manifest, err error) {
	content, ok := src.Files[ManifestFile]
	if !ok {
		return m, at(ManifestFile, fmt.Errorf("the bundle has none; it must at least say {\"roots\": [%q]}", Root))
	}
	dec := json.NewDecoder(strings.NewReader(string(content)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		return m, at(ManifestFile, err)
	}
	switch {
	case m.Roots == nil || len(*m.Roots) != 1 || strings.Trim((*m.Roots)[0], "/") != Root:
		return m, at(ManifestFile, fmt.Errorf("roots must be [%q]: the bundle may define data.%s and nothing else", Root, Root))
	case m.RegoVersion != nil && *m.RegoVersion != 1:
		return m, at(ManifestFile, errors.New("rego_version must be 1 or left out"))
	case len(m.Revision) > 200 || strings.ContainsFunc(m.Revision, func(r rune) bool { return r < ' ' || r > '~' }):
		return m, at(ManifestFile, errors.New("revision must be at most 200 printable ASCII characters"))
	}
	if _, err := manifestWaivers(m); err != nil {
		return m, at(ManifestFile, err)
	}
	return m, nil
}

// checkPackage keeps modules inside the root.
func checkPackage(m *ast.Module) error {
	p := m.Package.Path // data.patrol…
	if len(p) < 2 || p[1].Value.Compare(ast.String(Root)) != 0 {
		return AtLocation(m.Package.Location, fmt.Errorf("%s is outside of %s, the only root a bundle may define", m.Package, Root))
	}
	return nil
}

// addData puts a data document where its folder says: patrol/roles/data.yaml is
// data.patrol.roles.
func (b *Bundle) addData(name string, content []byte) error {
	asJSON := content
	if path.Ext(name) != ".json" {
		var err error
		if asJSON, err = yaml.YAMLToJSONStrict(content); err != nil {
			return at(name, err)
		}
	}
	var doc any
	if err := util.UnmarshalJSON(asJSON, &doc); err != nil {
		return at(name, err)
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		doc = map[string]any{path.Base(dir): doc}
	}
	tree, ok := doc.(map[string]any)
	if !ok {
		return at(name, errors.New("must be an object"))
	}
	for key := range tree {
		if key != Root {
			return at(name, fmt.Errorf("data.%s is outside of %s, the only root a bundle may define", key, Root))
		}
	}
	b.Documents[name] = content
	if conflict := merge(b.Data, tree); conflict != "" {
		return at(name, fmt.Errorf("data%s is already defined by %s", conflict, b.definer(conflict, name)))
	}
	return nil
}

// definer is the file that has a part of data, other than one.
func (b *Bundle) definer(conflict, not string) string {
	keys := strings.Split(strings.TrimPrefix(conflict, "."), ".")
	for _, name := range slices.Sorted(maps.Keys(b.Documents)) {
		var above []string
		if dir := path.Dir(name); dir != "." {
			above = strings.Split(dir, "/")
		}
		if name != not && (len(above) <= len(keys) && slices.Equal(above, keys[:len(above)]) || len(above) > len(keys) && slices.Equal(above[:len(keys)], keys)) {
			return name
		}
	}
	return "another file"
}

// merge adds src to dst. Where both have a value that is not an object it returns
// that place, with a dot before each key.
func merge(dst, src map[string]any) (conflict string) {
	for _, key := range slices.Sorted(maps.Keys(src)) {
		old, exists := dst[key]
		if !exists {
			dst[key] = src[key]
			continue
		}
		oldMap, ok1 := old.(map[string]any)
		newMap, ok2 := src[key].(map[string]any)
		if !ok1 || !ok2 {
			return "." + key
		}
		if inner := merge(oldMap, newMap); inner != "" {
			return "." + key + inner
		}
	}
	return ""
}

// Digest identifies the files that take part in evaluation. It is the revision of
// a bundle whose manifest gives none.
func (src Source) Digest() string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(src.Files)) {
		if !IsPolicyFile(name) {
			continue
		}
		for _, part := range [][]byte{[]byte(name), src.Files[name]} {
			h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
			h.Write(part)
		}
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)[:16])
}
