package models

import (
	"cmp"
	"slices"
	"time"
)

// ScopeAdvice says what a scope was used for, and what to do about it.
type ScopeAdvice struct {
	Scope  Scope
	Uses   int64
	LastAt *time.Time // of the last use; nil: none
	// Narrowed are the scopes that would have done, as far as Keep is false; none:
	// the scope was not used at all.
	Narrowed []Scope
	Keep     bool // there is nothing better
}

// maxNarrowed bounds the scopes that one may become: a token with dozens for what one
// says is not easier to look through.
const maxNarrowed = 8

// Advise compares what a token may do with what it did. Scopes that were not used
// can go; one with [Any] for domain or entity can name what it was used for, if
// that is little enough. all says whether used is all that there was; if not,
// nothing is narrowed, and it need only have one use of each scope. The scopes that remain, in
// order, are what the token needed; none: the token was not used.
func Advise(p PAT, used []UsedScope, all bool, maxScopes int) (advice []ScopeAdvice, needed []Scope) {
	by := make([][]UsedScope, len(p.Scopes))
	certain := true // that a scope without a use had none
	for _, u := range used {
		i, gone := p.usedBy(u)
		if i >= 0 {
			by[i] = append(by[i], u)
		}
		if gone && !all {
			certain = false // what else it granted may count for any of them
		}
	}
	for i, s := range p.Scopes {
		a := ScopeAdvice{Scope: s}
		var asked []Scope
		for _, u := range by[i] {
			a.Uses += u.Count
			if a.LastAt == nil || u.LastAt.After(*a.LastAt) {
				a.LastAt = &u.LastAt
			}
			asked = append(asked, Scope{Domain: u.Domain, EntityType: u.EntityType, Entity: u.Entity, Operation: u.Operation})
		}
		a.Narrowed = narrowed(s, asked)
		a.Keep = a.Uses == 0 && !certain || a.Uses > 0 && (!all || len(a.Narrowed) > maxNarrowed || len(a.Narrowed) == 1 && a.Narrowed[0].Same(s))
		if a.Keep {
			a.Narrowed = nil
		}
		advice = append(advice, a)
	}
	needed = remaining(advice)
	if len(needed) > maxScopes { // as many as there may be, the rest stays wide
		for i := range advice {
			if len(advice[i].Narrowed) > 1 {
				advice[i].Narrowed, advice[i].Keep = nil, true
			}
		}
		needed = remaining(advice)
	}
	return advice, needed
}

// CountAdvice returns how many scopes could go, and how many could be narrower.
func CountAdvice(advice []ScopeAdvice) (unused, wide int) {
	for _, a := range advice {
		switch {
		case a.Keep:
		case len(a.Narrowed) == 0:
			unused++
		default:
			wide++
		}
	}
	return unused, wide
}

// usedBy returns which of the scopes a use counts for: the one that granted it, or
// if that is gone, as after a narrowing, the most specific one that would; -1: none.
func (p PAT) usedBy(u UsedScope) (best int, gone bool) {
	if i := slices.IndexFunc(p.Scopes, func(s Scope) bool { return s.ID == u.ScopeID }); i >= 0 {
		return i, false
	}
	asked := Scope{Domain: u.Domain, EntityType: u.EntityType, Entity: u.Entity, Operation: u.Operation}
	best = -1
	rank := -1
	for i, s := range p.Scopes {
		if !s.Includes(asked) {
			continue
		}
		specific := 0
		if s.Domain != Any {
			specific += 2
		}
		if s.Entity != Any {
			specific++
		}
		if specific > rank {
			best, rank = i, specific
		}
	}
	return best, true
}

// narrowed returns what a scope has to be for what was asked. A request for the
// collection needs entity [Any], which covers all others of its domain.
func narrowed(s Scope, asked []Scope) (out []Scope) {
	whole := map[string]bool{} // domains whose collection was asked for
	for _, a := range asked {
		whole[a.Domain] = whole[a.Domain] || a.Entity == Any
	}
	for _, a := range asked {
		n := Scope{Domain: a.Domain, EntityType: s.EntityType, Entity: a.Entity, Operation: s.Operation}
		if whole[a.Domain] {
			n.Entity = Any
		}
		if s.spells(n.Entity) { // the log has the canonical form
			n.Entity = s.Entity
		}
		if !s.Includes(n) { // it was another scope then, under the same id
			continue
		}
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b Scope) int { return cmp.Or(cmp.Compare(a.Domain, b.Domain), cmp.Compare(a.Entity, b.Entity)) })
	return slices.Compact(out)
}

// spells reports whether some kind of upstream judges the scope's model by another name,
// which is this one.
func (s Scope) spells(name string) bool {
	return slices.ContainsFunc(UpstreamKinds(), func(k UpstreamKind) bool { return k.entity(s) == name })
}

// Includes reports whether everything that o covers is covered by s.
func (s Scope) Includes(o Scope) bool {
	return (s.Domain == Any || s.Domain == o.Domain) && s.EntityType == o.EntityType &&
		(s.Entity == Any || s.Entity == o.Entity) && s.Operation == o.Operation
}

// remaining are the scopes after the advice is taken, none of them twice.
func remaining(advice []ScopeAdvice) (out []Scope) {
	add := func(s Scope) {
		s.ID = ""
		if !slices.ContainsFunc(out, s.Same) {
			out = append(out, s)
		}
	}
	for _, a := range advice {
		if a.Keep {
			add(a.Scope)
		}
		for _, s := range a.Narrowed {
			add(s)
		}
	}
	return out
}
