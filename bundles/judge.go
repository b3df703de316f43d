package bundles

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"patrol/bundles/sandbox"
	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
)

// Judge makes decisions again under one candidate, in a child process that goes on
// until it is closed. It belongs to one goroutine.
type Judge struct {
	session *sandbox.Session
	rules   workbench.ReasonRules
}

// patience is the time that a child may take for one answer. What takes far longer than an
// evaluation may is a built-in function that nothing can stop.
const patience = 10 * time.Second

// Open starts a child that judges by the candidate. Of the limits, memory counts.
func (c *Candidate) Open(ctx context.Context, limits sandbox.Limits) (*Judge, error) {
	runner, err := sandbox.New(limits)
	if err != nil {
		return nil, err
	}
	session, err := runner.Open(ctx, jobJudge, jobSource(c.source))
	if err != nil {
		return nil, err
	}
	j := &Judge{session: session}
	late := time.AfterFunc(loadLimits.Wall, func() { session.Late(loadLimits.Wall) })
	defer late.Stop()
	line, err := session.ReadLine()
	if err == nil {
		err = json.Unmarshal(line, &j.rules)
	}
	if err != nil {
		session.Close()
		return nil, err
	}
	return j, nil
}

// Rules are the candidate's rules that give reasons.
func (j *Judge) Rules() workbench.ReasonRules { return j.rules }

// Judge makes decisions again, each an event of the decision log on a line of its own,
// and calls each with what becomes of one after the other. An error says that the child
// has ended, as that of [sandbox.Runner.Run] does, over the first decision that each was
// not called for.
func (j *Judge) Judge(events []byte, each func(workbench.EventReplay)) error {
	late := time.AfterFunc(patience, func() { j.session.Late(patience) })
	defer late.Stop()
	written := make(chan struct{})
	go func() { // which may have to wait until answers are read
		defer close(written)
		if _, err := j.session.Write(events); err == nil {
			_ = j.session.Flush() // if that failed, the child has ended, and reading says why
		}
	}()
	defer func() { <-written }()
	for range bytes.Count(events, lineBreak) {
		line, err := j.session.ReadLine()
		if err != nil {
			return err
		}
		var answer workbench.EventReplay
		if err := json.Unmarshal(line, &answer); err != nil {
			return fmt.Errorf("read what became of a decision: %w", err)
		}
		late.Reset(patience)
		each(answer)
	}
	return nil
}

// Close ends the child.
func (j *Judge) Close() { j.session.Close() }

// judgeEvents is the child's side: a line with the rules, and then an answer to each
// event.
func judgeEvents(ctx context.Context, input json.RawMessage, events io.Reader) (any, error) {
	var in jobSource
	if err := json.Unmarshal(input, &in); err != nil {
		return nil, err
	}
	policy, err := in.load(ctx, engine.DefaultTimeout)
	if err != nil {
		return nil, err
	}
	return sandbox.Stream(func(w io.Writer) error {
		answers := json.NewEncoder(w)
		if err := answers.Encode(workbench.ReasonRulesOf(policy)); err != nil {
			return err
		}
		asked := bufio.NewReaderSize(events, 1<<20)
		var cache workbench.FactCache
		for {
			event, err := asked.ReadBytes('\n')
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			answer, err := workbench.ReplayEvent(ctx, policy, event, &cache)
			if err != nil {
				return err
			}
			if err := answers.Encode(answer); err != nil {
				return err
			}
		}
	}), nil
}
