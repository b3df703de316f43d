package engine

import (
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
)

// Source is a policy bundle as it was read, before anything in it is understood.
// Package bundles hands it over.
type Source struct {
	// Name says in messages where the bundle comes from, such as a folder's path.
	Name string
	// Files are the bundle's files by slash-separated path relative to its root.
	// Those that are no part of a policy are passed over; see [IsPolicyFile].
	Files map[string][]byte
}

// The names of a bundle's files, as OPA has them.
const (
	manifestFile     = ".manifest"
	capabilitiesFile = "capabilities.json"
	root             = "patrol" // the only part of data that a bundle may define
)

// IsPolicyFile reports whether a file of a bundle, named by its path in it, takes
// part in evaluation: the manifest, the modules but for tests, the data
// documents, and a capabilities.json at the top. It also reports those that OPA
// would let take part and [Load] refuses.
func IsPolicyFile(name string) bool {
	return name == manifestFile || name == capabilitiesFile ||
		isModule(name) || isData(name) || slices.Contains(unsupported, path.Base(name))
}

func isModule(name string) bool {
	return strings.HasSuffix(name, ".rego") && !strings.HasSuffix(name, "_test.rego")
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

// bundle is a source, parsed and not yet compiled.
type bundle struct {
	revision     string
	modules      map[string]*ast.Module
	data         map[string]any
	capabilities *ast.Capabilities // nil if it brings none
}

// manifest is what a bundle's .manifest may say.
type manifest struct {
	Revision    string         `json:"revision"`
	Roots       *[]string      `json:"roots"`
	RegoVersion *int           `json:"rego_version"`
	Metadata    map[string]any `json:"metadata"`
}

// parse reads the files. All errors that it finds are reported, each with the
// file, and the line where there is one.
func (src Source) parse() (*bundle, error) {
	b := &bundle{modules: map[string]*ast.Module{}, data: map[string]any{}}
	var errs []error
	m, err := src.manifest()
	if err != nil {
		errs = append(errs, err)
	}
	for _, name := range slices.Sorted(maps.Keys(src.Files)) {
		content := src.Files[name]
		switch {
		case slices.Contains(unsupported, path.Base(name)):
			err = fmt.Errorf("%s: bundles with such files are not supported, only Rego modules and data documents are", name)
		case isModule(name):
			var module *ast.Module
			module, err = ast.ParseModuleWithOpts(name, string(content), ast.ParserOptions{
				ProcessAnnotation: true, RegoVersion: ast.RegoV1,
			})
			if err == nil {
				b.modules[name], err = module, checkPackage(module)
			}
		case isData(name):
			err = b.addData(name, content)
		case name == capabilitiesFile:
			b.capabilities, err = parseCapabilities(content)
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
	if b.revision = m.Revision; b.revision == "" {
		b.revision = src.digest()
	}
	return b, nil
}

func (src Source) manifest() (m manifest, err error) {
	content, ok := src.Files[manifestFile]
	if !ok {
		return m, fmt.Errorf("%s: the bundle has none; it must at least say {\"roots\": [%q]}", manifestFile, root)
	}
	dec := json.NewDecoder(strings.NewReader(string(content)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		return m, fmt.Errorf("%s: %w", manifestFile, err)
	}
	switch {
	case m.Roots == nil || len(*m.Roots) != 1 || strings.Trim((*m.Roots)[0], "/") != root:
		return m, fmt.Errorf("%s: roots must be [%q]: the bundle may define data.%s and nothing else", manifestFile, root, root)
	case m.RegoVersion != nil && *m.RegoVersion != 1:
		return m, fmt.Errorf("%s: rego_version must be 1 or left out", manifestFile)
	case len(m.Revision) > 200 || strings.ContainsFunc(m.Revision, func(r rune) bool { return r < ' ' || r > '~' }):
		return m, fmt.Errorf("%s: revision must be at most 200 printable ASCII characters", manifestFile)
	}
	return m, nil
}

// checkPackage keeps modules inside the root.
func checkPackage(m *ast.Module) error {
	p := m.Package.Path // data.patrol…
	if len(p) < 2 || p[1].Value.Compare(ast.String(root)) != 0 {
		return fmt.Errorf("%s: %s is outside of %s, the only root a bundle may define", m.Package.Location, m.Package, root)
	}
	return nil
}

// addData puts a data document where its folder says: patrol/roles/data.yaml is
// data.patrol.roles.
func (b *bundle) addData(name string, content []byte) error {
	asJSON := content
	if path.Ext(name) != ".json" {
		var err error
		if asJSON, err = yaml.YAMLToJSONStrict(content); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	var doc any
	if err := util.UnmarshalJSON(asJSON, &doc); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		doc = map[string]any{path.Base(dir): doc}
	}
	tree, ok := doc.(map[string]any)
	if !ok {
		return fmt.Errorf("%s: must be an object", name)
	}
	for key := range tree {
		if key != root {
			return fmt.Errorf("%s: data.%s is outside of %s, the only root a bundle may define", name, key, root)
		}
	}
	if at := merge(b.data, tree); at != "" {
		return fmt.Errorf("%s: data%s is already defined by another file", name, at)
	}
	return nil
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
		if at := merge(oldMap, newMap); at != "" {
			return "." + key + at
		}
	}
	return ""
}

// digest identifies the files that take part in evaluation.
func (src Source) digest() string {
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
