package plan

import (
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ir"
)

// propagate has the statements of a function read the original of each copy: the planner
// gives most values a second local. It changes the plan. The statements that copy stay,
// and do nothing.
func propagate(blocks []*ir.Block) {
	s := surveyBlocks(blocks)
	original := map[ir.Local]ir.Local{}
	var find func(bs []*ir.Block)
	find = func(bs []*ir.Block) {
		for _, b := range bs {
			for i, stmt := range b.Stmts {
				switch t := stmt.(type) {
				case *ir.BlockStmt:
					find(t.Blocks)
				case *ir.NotStmt:
					find([]*ir.Block{t.Block})
				case *ir.ScanStmt:
					find([]*ir.Block{t.Block})
				case *ir.WithStmt:
					find([]*ir.Block{t.Block})
				case *ir.AssignVarStmt:
					if from, ok := t.Source.Value.(ir.Local); ok && s.isCopy(t.Target, from) {
						if earlier, ok := original[from]; ok {
							from = earlier
						}
						original[t.Target] = from
						b.Stmts[i] = &ir.NopStmt{}
					}
				}
			}
		}
	}
	find(blocks)
	if len(original) > 0 {
		substitute(blocks, original)
	}
}

// isCopy reports whether a local has the value of another for as long as it is read.
func (s *survey) isCopy(l, from ir.Local) bool {
	to, of := s.of(l, nil), s.of(from, nil)
	if !to.once() || len(to.mutates) > 0 || of.resets > 0 || of.tested {
		return false
	}
	if of.writes == 0 {
		return from <= ir.Data || len(of.mutates) == 0 // an argument
	}
	if !of.once() {
		return false
	}
	for _, n := range of.mutates {
		if n > to.at {
			return false
		}
	}
	return true
}

// separate gives the locals of each block of a function names of their own, as far as no
// value goes from one block to another: the planner uses the same locals for each rule.
// It changes the plan. params are those of the function.
func separate(params []ir.Local, blocks []*ir.Block) {
	surveys := make([]*survey, len(blocks))
	flows := map[ir.Local]bool{ir.Input: true, ir.Data: true}
	for _, l := range params {
		flows[l] = true
	}
	last := ir.Data
	for i, b := range blocks {
		surveys[i] = surveyBlocks([]*ir.Block{b})
		for l, u := range surveys[i].locals {
			flows[l] = flows[l] || !surveys[i].own(u)
			last = max(last, l)
		}
	}
	for i, b := range blocks[:max(len(blocks)-1, 0)] {
		names := map[ir.Local]ir.Local{}
		for _, l := range slices.Sorted(maps.Keys(surveys[i].locals)) {
			if !flows[l] {
				last++
				names[l] = last
			}
		}
		replace([]*ir.Block{b}, names, true)
	}
	mentions := map[ir.Local]int{}
	for l, u := range surveyBlocks(blocks).locals {
		mentions[l] = u.mentions()
	}
	separateNested(blocks, mentions, &last)
}

// separateNested does the same for the blocks of each statement that has several: the
// branches of an else. mentions counts where each local of the function is named.
func separateNested(blocks []*ir.Block, mentions map[ir.Local]int, last *ir.Local) {
	for _, b := range blocks {
		for _, stmt := range b.Stmts {
			switch t := stmt.(type) {
			case *ir.BlockStmt:
				separateBranches(t.Blocks, mentions, last)
				separateNested(t.Blocks, mentions, last)
			case *ir.NotStmt:
				separateNested([]*ir.Block{t.Block}, mentions, last)
			case *ir.ScanStmt:
				separateNested([]*ir.Block{t.Block}, mentions, last)
			case *ir.WithStmt:
				separateNested([]*ir.Block{t.Block}, mentions, last)
			}
		}
	}
}

func separateBranches(branches []*ir.Block, mentions map[ir.Local]int, last *ir.Local) {
	if len(branches) < 2 {
		return
	}
	surveys := make([]*survey, len(branches))
	inside, flows := map[ir.Local]int{}, map[ir.Local]bool{ir.Input: true, ir.Data: true}
	for i, b := range branches {
		surveys[i] = surveyBlocks([]*ir.Block{b})
		for l, u := range surveys[i].locals {
			inside[l] += u.mentions()
			flows[l] = flows[l] || !surveys[i].own(u)
		}
	}
	for i, b := range branches[:len(branches)-1] {
		names := map[ir.Local]ir.Local{}
		for _, l := range slices.Sorted(maps.Keys(surveys[i].locals)) {
			if !flows[l] && inside[l] == mentions[l] {
				*last++
				names[l] = *last
			}
		}
		for l, name := range names {
			n := surveys[i].locals[l].mentions()
			mentions[name] = n
			mentions[l] -= n
			inside[l] -= n
		}
		replace([]*ir.Block{b}, names, true)
	}
}

// mentions counts where the local is named.
func (u *usage) mentions() int {
	return u.writes + u.resets + len(u.reads) + len(u.mutates) + len(u.checks)
}

// own reports whether all that reads a local reads what a statement before it wrote, in
// the same block or one around it.
func (s *survey) own(u *usage) bool {
	for _, list := range [][]int{u.reads, u.mutates, u.checks} {
		for _, n := range list {
			if !slices.ContainsFunc(u.spots, func(w spot) bool { return w.at < n && n <= s.ends[w.block] }) {
				return false
			}
		}
	}
	return true
}

// substitute replaces locals wherever they are read.
func substitute(blocks []*ir.Block, by map[ir.Local]ir.Local) { replace(blocks, by, false) }

// replace replaces locals where they are read, and on demand where they are written.
func replace(blocks []*ir.Block, by map[ir.Local]ir.Local, everywhere bool) {
	local := func(l *ir.Local) {
		if to, ok := by[*l]; ok {
			*l = to
		}
	}
	written := func(l *ir.Local) {
		if everywhere {
			local(l)
		}
	}
	operand := func(o *ir.Operand) {
		if l, ok := o.Value.(ir.Local); ok {
			if to, ok := by[l]; ok {
				o.Value = to
			}
		}
	}
	for _, b := range blocks {
		for _, stmt := range b.Stmts {
			switch t := stmt.(type) {
			case *ir.AssignIntStmt:
				written(&t.Target)
			case *ir.ResetLocalStmt:
				written(&t.Target)
			case *ir.MakeNullStmt:
				written(&t.Target)
			case *ir.MakeNumberIntStmt:
				written(&t.Target)
			case *ir.MakeNumberRefStmt:
				written(&t.Target)
			case *ir.MakeArrayStmt:
				written(&t.Target)
			case *ir.MakeObjectStmt:
				written(&t.Target)
			case *ir.MakeSetStmt:
				written(&t.Target)
			case *ir.IsDefinedStmt:
				written(&t.Source)
			case *ir.IsUndefinedStmt:
				written(&t.Source)
			case *ir.ReturnLocalStmt:
				local(&t.Source)
			case *ir.ResultSetAddStmt:
				local(&t.Value)
			case *ir.CallStmt:
				written(&t.Result)
				for i := range t.Args {
					operand(&t.Args[i])
				}
			case *ir.CallDynamicStmt:
				written(&t.Result)
				for i := range t.Args {
					local(&t.Args[i])
				}
				for i := range t.Path {
					operand(&t.Path[i])
				}
			case *ir.BlockStmt:
				replace(t.Blocks, by, everywhere)
			case *ir.NotStmt:
				replace([]*ir.Block{t.Block}, by, everywhere)
			case *ir.ScanStmt:
				written(&t.Key)
				written(&t.Value)
				local(&t.Source)
				replace([]*ir.Block{t.Block}, by, everywhere)
			case *ir.WithStmt:
				written(&t.Local)
				operand(&t.Value)
				replace([]*ir.Block{t.Block}, by, everywhere)
			case *ir.DotStmt:
				written(&t.Target)
				operand(&t.Source)
				operand(&t.Key)
			case *ir.LenStmt:
				written(&t.Target)
				operand(&t.Source)
			case *ir.AssignVarStmt:
				written(&t.Target)
				operand(&t.Source)
			case *ir.AssignVarOnceStmt:
				written(&t.Target)
				operand(&t.Source)
			case *ir.EqualStmt:
				operand(&t.A)
				operand(&t.B)
			case *ir.NotEqualStmt:
				operand(&t.A)
				operand(&t.B)
			case *ir.IsArrayStmt:
				operand(&t.Source)
			case *ir.IsObjectStmt:
				operand(&t.Source)
			case *ir.IsSetStmt:
				operand(&t.Source)
			case *ir.ArrayAppendStmt:
				written(&t.Array)
				operand(&t.Value)
			case *ir.ObjectInsertStmt:
				written(&t.Object)
				operand(&t.Key)
				operand(&t.Value)
			case *ir.ObjectInsertOnceStmt:
				written(&t.Object)
				operand(&t.Key)
				operand(&t.Value)
			case *ir.ObjectMergeStmt:
				written(&t.Target)
				local(&t.A)
				local(&t.B)
			case *ir.SetAddStmt:
				written(&t.Set)
				operand(&t.Value)
			}
		}
	}
}
