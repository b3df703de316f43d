package engine

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
)

func concatenated(args []*ast.Term) error {
	n, delimiter := 0, len(textAt(args, 0))
	add := func(t *ast.Term) bool {
		n += delimiter + size(t.Value, maxOutput)
		return n > maxOutput
	}
	switch v := args[1].Value.(type) {
	case *ast.Array:
		v.Until(add)
	case ast.Set:
		v.Until(add)
	}
	if n > maxOutput {
		return tooMuch("bytes", maxOutput)
	}
	return nil
}

// replaced bounds what a replacement makes: at most one for each byte of the text.
func replaced(args []*ast.Term) error {
	text, old, by := textAt(args, 0), textAt(args, 1), textAt(args, 2)
	times := len(text) + 1
	if old != "" && !strings.ContainsAny(old, `\*?+.()[]{}|^$`) {
		times = strings.Count(text, old)
	}
	if len(text)+times*len(by) > maxOutput {
		return tooMuch("bytes", maxOutput)
	}
	return nil
}

func replacedAll(args []*ast.Term) error {
	longest := 0
	if patterns, ok := args[0].Value.(ast.Object); ok {
		if patterns.Len() > 1000 {
			return tooMuch("replacements", 1000)
		}
		patterns.Foreach(func(k, v *ast.Term) { longest = max(longest, size(v.Value, maxOutput), size(k.Value, maxOutput)) })
	}
	if (len(textAt(args, 1))+1)*max(longest, 1) > maxOutput {
		return tooMuch("bytes", maxOutput)
	}
	return nil
}

// pieces bounds how many parts a text is split into.
func pieces(args []*ast.Term) error {
	text, delimiter := textAt(args, 0), textAt(args, 1)
	n := utf8.RuneCountInString(text)
	if delimiter != "" {
		n = strings.Count(text, delimiter) + 1
	}
	if n > maxElements {
		return tooMuch("parts", maxElements)
	}
	return nil
}

// formatted bounds what sprintf makes.
func formatted(args []*ast.Term) error {
	format := textAt(args, 0)
	values := size(args[1].Value, maxOutput)
	verbs := strings.Count(format, "%")
	if verbs > 1000 || len(format) > maxParsed {
		return tooMuch("verbs", 1000)
	}
	if err := numbers(args); err != nil {
		return err
	}
	width := 0
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			continue
		}
		n := 0
		for i++; i < len(format) && strings.IndexByte("0123456789.+-# []*", format[i]) >= 0; i++ {
			switch c := format[i]; {
			case c == '*':
				return errors.New("a width that is an argument is not available here")
			case c >= '0' && c <= '9' && n <= maxWidth:
				n = 10*n + int(c-'0')
			case n > maxWidth:
			default:
				width += n
				n = 0
			}
		}
		if width += n; width > maxWidth {
			return tooMuch("what is padded", maxWidth)
		}
	}
	if len(format)+max(verbs, 1)*values > maxOutput {
		return tooMuch("bytes", maxOutput)
	}
	return nil
}

// template bounds templates to what ends: they may repeat once, and not call one another.
func template(args []*ast.Term) error {
	text := textAt(args, 0)
	for _, word := range []string{"define", "template", "block", "printf", "print", "html", "js", "urlquery"} {
		if strings.Contains(text, word) {
			return fmt.Errorf("%s is not available here", word)
		}
	}
	switch {
	case len(text) > 4096:
		return tooMuch("bytes", 4096)
	case strings.Count(text, "range") > 1:
		return tooMuch("repetitions", 1)
	case size(args[1].Value, maxParsed) > maxParsed:
		return tooMuch("bytes", maxParsed)
	}
	return nil
}

func length(t *ast.Term) int {
	if v, ok := t.Value.(interface{ Len() int }); ok {
		return v.Len()
	}
	return 1
}

// pairs bounds functions that hold each of one thing against each of another.
func pairs(args []*ast.Term) error {
	if length(args[0])*length(args[1]) > maxPairs || size(args[0].Value, maxText)+size(args[1].Value, maxText) > maxText {
		return tooMuch("comparisons", maxPairs)
	}
	return nil
}

func products(args []*ast.Term) error {
	if len(textAt(args, 0))*len(textAt(args, 1)) > maxProduct {
		return tooMuch("comparisons", maxProduct)
	}
	return nil
}

func lengths(args []*ast.Term) error { // array.concat
	if length(args[0])+length(args[1]) > maxElements {
		return tooMuch("elements", maxElements)
	}
	return nil
}

func elements(most int) bound {
	return func(args []*ast.Term) error {
		if length(args[0]) > most {
			return tooMuch("elements", most)
		}
		return nil
	}
}

// edges bounds a graph of which all paths are listed.
func edges(args []*ast.Term) error {
	n := 0
	if graph, ok := args[0].Value.(ast.Object); ok {
		graph.Foreach(func(_, v *ast.Term) { n += length(v) })
	}
	if n > maxEdges || length(args[1]) > maxEdges {
		return tooMuch("edges", maxEdges)
	}
	return nil
}

func graphql(args []*ast.Term) error {
	for _, t := range args {
		if size(t.Value, 4096) > 4096 || strings.Count(string(textOfValue(t.Value)), "...") > 16 {
			return tooMuch("bytes", 4096)
		}
	}
	return nil
}

// overlaps bounds a GraphQL query by the pairs of equal names in it, in text or as a
// syntax tree: validation compares the fields of each pair (GraphQL, section 5.3.2).
func overlaps(args []*ast.Term) error {
	names := map[string]int{}
	var count func(*ast.Term)
	count = func(t *ast.Term) {
		switch v := t.Value.(type) {
		case ast.String:
			for name := range strings.FieldsFuncSeq(string(v), func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
				names[name]++
			}
		case *ast.Array:
			v.Foreach(count)
		case ast.Object:
			v.Foreach(func(_, value *ast.Term) { count(value) })
		}
	}
	count(args[0])
	n := 0
	for _, times := range names {
		n += times * times
	}
	if n > maxOverlaps {
		return tooMuch("pairs of equal names", maxOverlaps)
	}
	return nil
}

func textOfValue(v ast.Value) ast.String {
	s, _ := v.(ast.String)
	return s
}

// addresses bounds the network whose addresses are listed to 2^16.
func addresses(args []*ast.Term) error {
	address, bits, ok := strings.Cut(textAt(args, 0), "/")
	least := 16
	if strings.Contains(address, ":") {
		least = 112
	}
	n := 0
	for _, c := range bits {
		n = 10*n + int(c-'0')
		if n > 128 {
			break
		}
	}
	if ok && n < least {
		return fmt.Errorf("a network of more than 2^16 addresses is %w", errTooMuch)
	}
	return nil
}

// indents bounds what json.marshal_with_options repeats on each line.
func indents(args []*ast.Term) error {
	if len(args) > 1 && size(args[1].Value, 256) > 256 {
		return tooMuch("bytes of options", 256)
	}
	return nil
}

// signature bounds that of a JSON Web Token: a key of RSA as long as it takes the square of
// its length, and one of another length is no key of it.
func signature(args []*ast.Term) error {
	token := textAt(args, 0)
	if len(token)-strings.LastIndexByte(token, '.') > maxSignature {
		return tooMuch("bytes of a signature", maxSignature)
	}
	return nil
}

// maxSignature holds one of 8,192 bits.
const maxSignature = 1500
