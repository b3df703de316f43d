package engine

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/util"

	"patrol/models"
	"patrol/policies"
)

// schemas are the JSON schemas of the policies folder by name, without .json. They
// are part of the contract between server and policy, so they come with the
// binary and not with a bundle.
var schemas = sync.OnceValues(func() (map[string]any, error) {
	files, err := fs.Glob(policies.FS, "schemas/*.json")
	if err != nil {
		return nil, err
	}
	byName := make(map[string]any, len(files))
	for _, file := range files {
		content, err := policies.FS.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var schema any
		if err := util.UnmarshalJSON(content, &schema); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		byName[strings.TrimSuffix(path.Base(file), ".json")] = schema
	}
	return byName, nil
})

// schemaSet returns the schemas as modules refer to them: schema.<name>.
func schemaSet() (*ast.SchemaSet, error) {
	all, err := schemas()
	if err != nil {
		return nil, err
	}
	set := ast.NewSchemaSet()
	for name, schema := range all {
		set.Put(ast.SchemaRootRef.Append(ast.StringTerm(name)), schema)
	}
	return set, nil
}

// CheckData holds the documents data.patrol.catalog, roles and routes against
// their schemas, and roles and routes against the catalog: what names an entity
// type or operation that does not exist is a typing error, not a wish.
func CheckData(ctx context.Context, b *Bundle) (models.Catalog, error) {
	inRoot, _ := b.Data[Root].(map[string]any)
	var errs []error
	for _, name := range []string{"catalog", "roles", "routes"} {
		doc, ok := inRoot[name]
		if !ok {
			errs = append(errs, fmt.Errorf("data.%s.%s is missing", Root, name))
			continue
		}
		errs = append(errs, checkSchema(ctx, b, name, doc))
	}
	if doc, ok := inRoot["choosers"]; ok { // else the default's count
		errs = append(errs, checkSchema(ctx, b, "choosers", doc))
	}
	if err := errors.Join(errs...); err != nil {
		return models.Catalog{}, err
	}
	catalog, err := readDocs(b)
	if err != nil {
		return models.Catalog{}, err
	}
	var docs struct {
		Routes map[string]RouteInfo `json:"routes"`
	}
	if err := decodeData(inRoot, &docs); err != nil {
		return models.Catalog{}, err
	}
	known := func(where, entityType, operation string, place ...string) {
		if _, ok := catalog.EntityTypes[entityType].Operations[operation]; !ok {
			errs = append(errs, b.AtData(place, fmt.Errorf("data.%s.%s: the catalog has no %s on %s", Root, where, operation, entityType)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(catalog.Roles)) {
		for _, entityType := range slices.Sorted(maps.Keys(catalog.Roles[name])) {
			for _, operation := range slices.Sorted(maps.Keys(catalog.Roles[name][entityType])) {
				known("roles."+name, entityType, operation, "roles", name, entityType, operation)
			}
		}
	}
	for _, pattern := range slices.Sorted(maps.Keys(docs.Routes)) {
		r, where := docs.Routes[pattern], fmt.Sprintf("routes[%q]", pattern)
		known(where, r.EntityType, r.Operation, "routes", pattern)
		stars, forms := starSegments(pattern), map[string]bool{}
		check := func(e RouteEntity, place ...string) {
			if e.Path > stars {
				errs = append(errs, b.AtData(place, fmt.Errorf("data.%s.%s: entity is from star %d of the path, which has %d", Root, where, e.Path, stars)))
			}
			forms["json"] = forms["json"] || len(e.JSON)+len(e.Each) > 0
			forms["multipart"] = forms["multipart"] || len(e.Multipart) > 0
			if forms["json"] && forms["multipart"] {
				errs = append(errs, b.AtData(place, fmt.Errorf("data.%s.%s: a body is either json or multipart", Root, where)))
			}
		}
		check(r.Entity, "routes", pattern, "entity")
		for i, q := range r.Also {
			place := []string{"routes", pattern, "also", strconv.Itoa(i)}
			known(where, cmp.Or(q.EntityType, r.EntityType), q.Operation, place...)
			forms["json"] = forms["json"] || len(q.When) > 0
			check(q.Entity, append(place, "entity")...)
		}
		if len(r.Absent)+len(r.Unread) > 0 && !forms["json"] && !forms["multipart"] {
			errs = append(errs, b.AtData([]string{"routes", pattern}, fmt.Errorf("data.%s.%s: absent and unread are for routes that read the body", Root, where)))
		}
	}
	return catalog, errors.Join(errs...)
}

// starSegments counts the segments of a pattern that stand for others.
func starSegments(pattern string) int {
	n := 0
	for segment := range strings.SplitSeq(pattern, "/") {
		if segment == "*" || segment == "**" {
			n++
		}
	}
	return n
}

// checkSchema holds one document of data.patrol against the schema of its name.
func checkSchema(ctx context.Context, b *Bundle, name string, doc any) error {
	err := matchSchema(ctx, "data."+Root+"."+name, name, doc)
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return b.AtData([]string{name}, err)
	}
	var errs []error
	for _, e := range joined.Unwrap() {
		place := []string{name}
		if broken, ok := errors.AsType[*schemaError](e); ok {
			place = append(place, broken.keys(doc)...)
		}
		errs = append(errs, b.AtData(place, e))
	}
	return errors.Join(errs...)
}

// readDocs reads the catalog and the roles, which must be as their schemas say.
func readDocs(b *Bundle) (models.Catalog, error) {
	var docs struct {
		Catalog models.Catalog         `json:"catalog"`
		Roles   map[string]models.Role `json:"roles"`
	}
	inRoot, _ := b.Data[Root].(map[string]any)
	if err := decodeData(inRoot, &docs); err != nil {
		return models.Catalog{}, err
	}
	docs.Catalog.Roles = docs.Roles
	return docs.Catalog, nil
}

func decodeData(inRoot map[string]any, docs any) error {
	content, err := json.Marshal(inRoot)
	if err == nil {
		err = json.NewDecoder(bytes.NewReader(content)).Decode(docs)
	}
	if err != nil {
		return fmt.Errorf("read the data documents: %w", err)
	}
	return nil
}

// schemaError is one way in which a document is not as its schema says.
type schemaError struct{ what, field, description string }

func (e *schemaError) Error() string { return e.what + ": " + e.field + ": " + e.description }

// additional is the validator's error for a member that may not be there.
var additional = regexp.MustCompile(`^Additional property (.+) is not allowed$`)

// keys leads to the field in a document. The validator joins them with dots, which keys
// may have themselves.
func (e *schemaError) keys(doc any) (keys []string) {
	for rest := e.field; ; {
		next := ""
		switch inner := doc.(type) {
		case map[string]any:
			for key := range inner {
				if len(key) > len(next) && (rest == key || strings.HasPrefix(rest, key+".")) {
					next = key
				}
			}
			doc = inner[next]
		case []any:
			next, _, _ = strings.Cut(rest, ".")
			i, err := strconv.Atoi(next)
			if err != nil || i < 0 || i >= len(inner) {
				next = ""
				break
			}
			doc = inner[i]
		}
		if next == "" {
			break
		}
		keys = append(keys, next)
		if rest = strings.TrimPrefix(strings.TrimPrefix(rest, next), "."); rest == "" {
			break
		}
	}
	if m := additional.FindStringSubmatch(e.description); m != nil {
		keys = append(keys, m[1])
	}
	return keys
}

// matchSchema holds a document, called what in errors, against a schema. It uses
// OPA's own validator, which policies have no access to.
func matchSchema(ctx context.Context, what, schema string, doc any) error {
	all, err := schemas()
	if err != nil {
		return err
	}
	docValue, err := ast.InterfaceToValue(doc)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	schemaValue, err := ast.InterfaceToValue(all[schema])
	if err != nil {
		return fmt.Errorf("schema of %s: %w", what, err)
	}
	if _, ok := docValue.(ast.Object); !ok {
		return fmt.Errorf("%s: must be an object", what)
	}
	bctx := topdown.BuiltinContext{Context: ctx, Capabilities: &ast.Capabilities{AllowNet: []string{}}}
	var errs []error
	err = topdown.GetBuiltin(ast.JSONMatchSchema.Name)(bctx,
		[]*ast.Term{ast.NewTerm(docValue), ast.NewTerm(schemaValue)},
		func(result *ast.Term) error { // [valid, [{"field", "desc", …}]]
			found, err := ast.JSON(result.Value)
			if err != nil {
				return err
			}
			pair, _ := found.([]any)
			if len(pair) != 2 {
				return fmt.Errorf("unexpected answer %v", result)
			}
			list, _ := pair[1].([]any)
			for _, e := range list {
				if e, ok := e.(map[string]any); ok {
					errs = append(errs, &schemaError{what, fmt.Sprint(e["field"]), fmt.Sprint(e["desc"])})
				}
			}
			if valid, _ := pair[0].(bool); valid != (len(errs) == 0) {
				return fmt.Errorf("unexpected answer %v", result)
			}
			return nil
		})
	if err != nil {
		return fmt.Errorf("check %s: %w", what, err)
	}
	return errors.Join(errs...)
}
