package engine

import (
	"regexp/syntax"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
)

// programs remembers how large regular expressions are.
var programs struct {
	sync.Mutex
	size map[string]int
}

// maxPrograms bounds how many are remembered.
const maxPrograms = 1024

// programSize is the number of instructions of a regular expression; 1 if it is none.
func programSize(pattern string) int {
	programs.Lock()
	n, ok := programs.size[pattern]
	programs.Unlock()
	if ok {
		return n
	}
	n = 1
	if re, err := syntax.Parse(pattern, syntax.Perl); err == nil {
		if p, err := syntax.Compile(re.Simplify()); err == nil {
			n = len(p.Inst)
		}
	}
	programs.Lock()
	defer programs.Unlock()
	if programs.size == nil || len(programs.size) >= maxPrograms {
		programs.size = map[string]int{}
	}
	programs.size[pattern] = n
	return n
}

// regexOnce bounds a function that goes through a text once; text is its argument, or -1.
func regexOnce(pattern, text int) bound {
	return func(args []*ast.Term) error {
		p := textAt(args, pattern)
		if len(p) > maxPattern {
			return tooMuch("bytes of a pattern", maxPattern)
		}
		if steps := (len(textAt(args, text)) + 1) * programSize(p); steps > maxSteps {
			return tooMuch("bytes of text times instructions of the pattern", maxSteps)
		}
		return nil
	}
}

// regexMany bounds a function that may begin anew at each match.
func regexMany(pattern, text int) bound {
	once := regexOnce(pattern, text)
	return func(args []*ast.Term) error {
		if err := once(args); err != nil {
			return err
		}
		n := len(textAt(args, text)) + 1
		if n*n*programSize(textAt(args, pattern)) > maxRescanned {
			return tooMuch("bytes of text squared times instructions of the pattern", maxRescanned)
		}
		return nil
	}
}

func globs(args []*ast.Term) error {
	pattern, text := textAt(args, 0), textAt(args, len(args)-1)
	switch special := strings.Count(pattern, "*") + strings.Count(pattern, "?") + strings.Count(pattern, "{") + strings.Count(pattern, "["); {
	case len(pattern) > 512:
		return tooMuch("bytes of a pattern", 512)
	case special > 16:
		return tooMuch("special signs of a pattern", 16)
	case len(text) > 2048:
		return tooMuch("bytes", 2048)
	}
	if len(args) > 2 && size(args[1].Value, 1024) > 1024 {
		return tooMuch("bytes of delimiters", 1024)
	}
	return nil
}
