package engine

import (
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
)

// maxTexts bounds the terms that facts share. More than these are made anew: no fact is
// wrong without sharing.
const maxTexts = 1 << 14

// maxSharedText bounds each of them, in bytes.
const maxSharedText = 256

// texts are the terms of the names that facts of many tokens have in common: of domains,
// entity types, entities, operations, roles. Shared, they take less memory, and an evaluation
// finds them in the processor's cache.
var texts = struct {
	sync.RWMutex
	terms map[string]*ast.Term
}{terms: map[string]*ast.Term{}}

// sharedText is the term of a name that others are likely to have as well.
func sharedText(s string) *ast.Term {
	texts.RLock()
	t := texts.terms[s]
	texts.RUnlock()
	if t != nil {
		return t
	}
	t = ast.StringTerm(s)
	if len(s) > maxSharedText {
		return t
	}
	texts.Lock()
	defer texts.Unlock()
	if first := texts.terms[s]; first != nil {
		return first
	}
	if len(texts.terms) >= maxTexts {
		clear(texts.terms)
	}
	texts.terms[s] = t
	return t
}
