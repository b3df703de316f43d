package engine

import (
	"errors"
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// One call of a built-in function cannot be interrupted, so each that could take long, or
// much memory, is bounded in what it is given: one call ends long before an evaluation's
// deadline. What is beyond a bound is an error, as any other error of a built-in function
// is. The bounds are wide for what decisions are about: names, addresses, headers, times.
const (
	maxText      = 1 << 20   // bytes of all texts in a call that goes through them once
	maxParsed    = 64 << 10  // bytes of what is parsed
	maxOutput    = 4 << 20   // bytes of a text that is made
	maxElements  = 1 << 17   // of an array or set that is made
	maxPattern   = 2048      // bytes of a regular expression
	maxSteps     = 2_000_000 // bytes of text × instructions of a regular expression
	maxRescanned = 16_000_000
	maxDigits    = 4096 // of a number
	maxExponent  = 400
	maxPairs     = 1 << 17 // of things that are compared with each other
	maxProduct   = 1 << 24 // bytes of one text × bytes of another
	maxWidth     = 1000    // of what sprintf pads
	maxEdges     = 24      // of a graph whose paths are listed
	maxOverlaps  = 4096    // pairs of equal names in a GraphQL query
	maxKey       = 8 << 10 // bytes of a key or certificate
)

// bound looks at the arguments of a call. After them there may be where the result goes.
type bound func(args []*ast.Term) error

// bounds are the limits of each function. Those that are not in it take time and memory
// in proportion to what they are given, and that is bounded by what others make.
var bounds = map[string]bound{
	"plus": numbers, "minus": all(numbers, crowded(false)), "mul": numbers, "div": numbers, "rem": numbers, "abs": numbers, "round": numbers, "ceil": numbers, "floor": numbers,
	"sum": numbers, "product": digitsInAll, "bits.and": numbers, "bits.or": numbers, "bits.xor": numbers, "bits.negate": numbers, "bits.rsh": numbers,
	"bits.lsh": all(numbers, shift), "format_int": numbers, "to_number": all(numbers, numberText, sizes(maxDigits)), "numbers.range": all(numbers, rangeOf), "numbers.range_step": all(numbers, rangeOf),

	"regex.match": regexOnce(0, 1), "re_match": regexOnce(0, 1), "regex.is_valid": regexOnce(0, -1),
	"regex.find_n": regexMany(0, 1), "regex.find_all_string_submatch_n": regexMany(0, 1), "regex.split": regexMany(0, 1), "regex.replace": all(regexMany(1, 0), replaced),
	"regex.template_match": all(each(256), regexOnce(-1, 1)), "regex.globs_match": each(32), "glob.match": globs, "glob.quote_meta": sizes(maxText),

	"concat": concatenated, "replace": replaced, "strings.replace_n": replacedAll, "split": pieces, "strings.split_n": pieces, "sprintf": formatted,
	"indexof_n": all(sizes(maxParsed), products), "strings.render_template": template, "strings.any_prefix_match": pairs, "strings.any_suffix_match": pairs,
	"trim": products, "trim_left": products, "trim_right": products, "indexof": all(sizes(maxText), sought), "internal.template_string": sizes(maxOutput),

	"json.marshal": sizes(maxText), "json.marshal_with_options": all(sizes(maxText), indents), "yaml.marshal": sizes(maxParsed), "json.unmarshal": sizes(256 << 10), "json.is_valid": sizes(256 << 10),
	"yaml.unmarshal": sizes(16 << 10), "yaml.is_valid": sizes(16 << 10), "json.patch": all(sizes(maxText), pairs, patches), "json.filter": all(sizes(maxText), pairs), "json.remove": all(sizes(maxText), pairs),
	"object.union": all(sizes(maxText), merged), "object.union_n": all(sizes(maxText), merged), "object.subset": all(sizes(maxText), subset), "array.flatten": sizes(maxText), "walk": sizes(maxText),
	"array.concat": lengths, "union": all(sizes(maxText), crowded(true)), "intersection": all(sizes(maxText), crowded(true)), "urlquery.encode_object": sizes(maxText), "urlquery.decode_object": sizes(maxParsed),
	"graph.reachable": all(sizes(maxText), reached), "graph.reachable_paths": edges,
	"graphql.is_valid": all(graphql, overlaps), "graphql.parse": all(graphql, overlaps), "graphql.parse_and_verify": all(graphql, overlaps), "graphql.parse_query": graphql, "graphql.parse_schema": graphql, "graphql.schema_is_valid": graphql,
	"net.cidr_expand": addresses, "net.cidr_merge": elements(1000), "net.cidr_contains_matches": all(pairs, matches), "net.cidr_contains": sizes(256), "net.cidr_intersects": sizes(256),
	"units.parse": all(each(64), numberText), "units.parse_bytes": all(each(64), numberText), "semver.compare": each(1024), "semver.is_valid": each(1024), "uri.parse": each(maxParsed), "uri.is_valid": each(maxParsed),
	"time.format": sizes(4096), "time.parse_ns": sizes(4096), "time.parse_rfc3339_ns": sizes(4096), "time.parse_duration_ns": sizes(4096), "uuid.parse": sizes(4096),
	"time.add_date": numbers, "time.clock": numbers, "time.date": numbers, "time.diff": numbers, "time.weekday": numbers,
	"crypto.x509.parse_certificates": sizes(maxParsed), "crypto.x509.parse_certificate_request": sizes(maxKey), "crypto.x509.parse_keypair": sizes(2 * maxKey),
	"crypto.x509.parse_rsa_private_key": sizes(maxKey), "crypto.parse_private_keys": sizes(2 * maxKey), "io.jwt.decode": sizes(maxParsed),
}

// within is the bound of a built-in function; nil: it has none.
func within(name string) func(args []*ast.Term) error { return bounds[name] }

func init() { //nolint:gochecknoinits // the functions are registered with OPA, for the process
	for _, alg := range []string{"hs256", "hs384", "hs512", "rs256", "rs384", "rs512", "ps256", "ps384", "ps512", "es256", "es384", "es512", "eddsa"} {
		bounds["io.jwt.verify_"+alg] = all(sizes(2*maxKey), signature)
	}
	for _, name := range []string{
		"all", "any", "base64.decode", "base64.encode", "base64.is_valid", "base64url.decode", "base64url.encode", "base64url.encode_no_pad", "contains", "crypto.hmac.equal",
		"crypto.hmac.md5", "crypto.hmac.sha1", "crypto.hmac.sha256", "crypto.hmac.sha512", "crypto.md5", "crypto.sha1", "crypto.sha256", "hex.decode", "hex.encode", "lower", "upper",
		"strings.count", "strings.reverse", "substring", "trim_prefix", "trim_space", "trim_suffix", "urlquery.decode", "urlquery.encode", "internal.print", "trace",
	} {
		bounds[name] = sizes(2 * maxOutput)
	}
	for _, name := range []string{"max", "min", "sort", "array.reverse", "array.slice"} {
		bounds[name] = sizes(maxOutput)
	}
	for _, name := range []string{"and", "or", "set_diff", "cast_set", "object.keys"} {
		bounds[name] = all(sizes(maxOutput), crowded(false))
	}
	for _, name := range []string{"object.filter", "object.remove"} {
		bounds[name] = all(sizes(maxText), crowded(false))
	}
	for _, name := range []string{"equal", "neq", "lt", "lte", "gt", "gte"} {
		bounds[name] = weighed(2)
	}
	bounds["internal.member_2"], bounds["internal.member_3"], bounds["object.get"] = weighed(1), sizes(maxOutput), keyed
	for name, within := range bounds {
		stock := topdown.GetBuiltin(name)
		if stock == nil {
			continue // which the tests notice
		}
		if !quickOnes[name] {
			ast.BuiltinMap[name].CanSkipBctx = false // else the deadline is not handed in
		}
		switch {
		case name == ast.WalkBuiltin.Name:
			stock = weighedPaths(stock)
		case makes(name):
			stock = weighedResults(stock)
		}
		topdown.RegisterBuiltinFunc(name, func(bctx topdown.BuiltinContext, args []*ast.Term, iter func(*ast.Term) error) error {
			if d, ok := bctx.Cancel.(*deadline); ok && !quickOnes[name] && d.calls(!everyday[name]) {
				return topdown.Halt{Err: &topdown.Error{Code: topdown.CancelErr, Message: "the time is over", Location: bctx.Location}}
			}
			if err := within(args); err != nil {
				return &topdown.Error{Code: topdown.BuiltinErr, Message: name + ": " + err.Error(), Location: bctx.Location}
			}
			return stock(bctx, args, iter)
		})
	}
	ast.BuiltinMap[heldName] = heldDecl
	topdown.RegisterBuiltinFunc(heldName, held)
}

// quickOnes are so quick whatever they are given that the clock is not looked at for each.
var quickOnes = map[string]bool{
	"plus": true, "minus": true, "equal": true, "neq": true, "lt": true, "lte": true, "gt": true, "gte": true, "internal.member_2": true, "internal.member_3": true, "object.get": true,
}

// everyday are those that policies call with little, so that having called them says nothing
// of how long an evaluation ran.
var everyday = map[string]bool{"object.union": true, "numbers.range": true}

var errTooMuch = errors.New("more than policies may have it work on; see the README of the policies")

func tooMuch(what string, most int) error {
	return fmt.Errorf("%s: more than %d is %w", what, most, errTooMuch)
}

func all(bounds ...bound) bound {
	return func(args []*ast.Term) error {
		for _, b := range bounds {
			if err := b(args); err != nil {
				return err
			}
		}
		return nil
	}
}

func sizes(most int) bound {
	return func(args []*ast.Term) error {
		n := 0
		for _, t := range args {
			if n += size(t.Value, most-n); n > most {
				return tooMuch("bytes", most)
			}
		}
		return nil
	}
}

// weighed bounds the arguments together if the first of them, as many as said, are all
// composite: comparing anything with a number or a text ends at once.
func weighed(first int) bound {
	within := sizes(maxOutput)
	return func(args []*ast.Term) error {
		for _, t := range args[:min(first, len(args))] {
			switch t.Value.(type) {
			case *ast.Array, ast.Object, ast.Set:
			default:
				return nil
			}
		}
		return within(args)
	}
}

// keyed bounds the second argument, which is looked up.
func keyed(args []*ast.Term) error { return sizes(maxText)(args[1:2]) }

// each bounds each argument by itself.
func each(most int) bound {
	return func(args []*ast.Term) error {
		for _, t := range args {
			if size(t.Value, most) > most {
				return tooMuch("bytes", most)
			}
		}
		return nil
	}
}

// written looks at how a number is written: 1e999999999 is short, and long to compute with.
func written(text string) error {
	if len(text) > maxDigits {
		return tooMuch("digits", maxDigits)
	}
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		exponent := strings.TrimLeft(text[i+1:], "+-0")
		if len(exponent) > 3 || len(exponent) == 3 && exponent > fmt.Sprint(maxExponent) {
			return tooMuch("the exponent", maxExponent)
		}
	}
	return nil
}

func numbers(args []*ast.Term) error {
	for _, t := range args {
		if err := numbersIn(t); err != nil {
			return err
		}
	}
	return nil
}

func numbersIn(t *ast.Term) (err error) {
	switch v := t.Value.(type) {
	case ast.Number:
		return written(string(v))
	case interface {
		Until(func(*ast.Term) bool) bool
	}: // an array or a set
		v.Until(func(t *ast.Term) bool {
			if n, ok := t.Value.(ast.Number); ok {
				err = written(string(n))
			}
			return err != nil
		})
	}
	return err
}

// numberText bounds what a number is read from: its first part that may belong to one.
func numberText(args []*ast.Term) error {
	text := textAt(args, 0)
	if end := strings.IndexFunc(text, func(r rune) bool { return !strings.ContainsRune("0123456789+-.eE", r) }); end >= 0 {
		text = text[:end]
	}
	return written(text)
}

// digitsInAll bounds the digits of all numbers together, as many as their product has.
func digitsInAll(args []*ast.Term) error {
	if err := numbers(args); err != nil {
		return err
	}
	n := 0
	count := func(t *ast.Term) bool { n += size(t.Value, maxDigits); return n > maxDigits }
	switch v := args[0].Value.(type) {
	case *ast.Array:
		v.Until(count)
	case ast.Set:
		v.Until(count)
	}
	if n > maxDigits {
		return tooMuch("digits", maxDigits)
	}
	return nil
}

func integer(t *ast.Term) (int, bool) {
	n, ok := t.Value.(ast.Number)
	if !ok {
		return 0, false
	}
	return n.Int()
}

func shift(args []*ast.Term) error {
	if n, ok := integer(args[1]); !ok || n > maxDigits {
		return tooMuch("bits", maxDigits)
	}
	return nil
}

// rangeOf bounds a range. What is not whole the function itself refuses.
func rangeOf(args []*ast.Term) error {
	from, ok1 := integer(args[0])
	to, ok2 := integer(args[1])
	if !ok1 || !ok2 {
		if isWhole(args[0]) && isWhole(args[1]) {
			return tooMuch("numbers", maxElements)
		}
		return nil
	}
	step := 1
	if len(args) > 2 {
		if n, ok := integer(args[2]); ok && n > 0 {
			step = n
		}
	}
	d := float64(to) - float64(from)
	if d < 0 {
		d = -d
	}
	if d/float64(step) >= maxElements {
		return tooMuch("numbers", maxElements)
	}
	return nil
}

func isWhole(t *ast.Term) bool {
	n, ok := t.Value.(ast.Number)
	return ok && !strings.ContainsAny(string(n), ".")
}

func textAt(args []*ast.Term, i int) string {
	if i < 0 || i >= len(args) {
		return ""
	}
	s, _ := args[i].Value.(ast.String)
	return string(s)
}
