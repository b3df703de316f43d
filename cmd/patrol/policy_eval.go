package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"patrol/policies/engine"
)

const inputHelp = `The input is a JSON document, as a file or on standard input: that of a decision, {"request", "token", "user", "domain", "membership", "now"}, or that of a
proxied request, {"http"}; or a recorded event that has one under "input". The README of the policy describes both. It holds no token's text, so it may be kept.`

func (p *process) policyEvalCommand() *cobra.Command {
	var out output
	var inputName string
	cmd := &cobra.Command{
		Use:   "eval [folder or archive]",
		Short: "Ask a policy about one input",
		Long: `Ask a policy about one input, and print its answer: a decision, or what a proxied request asks for.

` + inputHelp + `

The exit status is 0 if it is allowed, or mapped by a route, 1 if not, 2 if something went wrong.`,
		Example: `  patrol policy eval my-policy --input input.json
  jq .input event.json | patrol policy eval --output json`,
		Args: policyPath,
		RunE: func(cmd *cobra.Command, args []string) error {
			files, s, content, err := p.question(cmd, args, inputName)
			if err != nil {
				return err
			}
			a, err := s.Evaluate(cmd.Context(), content)
			if err != nil {
				return fmt.Errorf("policy %s: %w", files.Name, err)
			}
			if out.json() {
				err = out.printJSON(a)
			} else {
				err = out.printf("%s", printableLines(answerText(a)))
			}
			return answered(a, err)
		},
	}
	cmd.Flags().StringVarP(&inputName, "input", "i", "-", "file with the input; - is standard input")
	addOutput(cmd, &out)
	return cmd
}

// question reads what eval and explain need: a policy, and what to ask it.
func (p *process) question(cmd *cobra.Command, args []string, inputName string) (policyFiles, *engine.Snapshot, []byte, error) {
	files, err := p.openPolicy(cmd, args)
	if err != nil {
		return files, nil, nil, err
	}
	s, err := files.load(cmd.Context(), cmd.ErrOrStderr())
	if err != nil {
		return files, nil, nil, err
	}
	content, err := p.readInputFile(inputName)
	return files, s, content, err
}

// answered is the end of a command that printed an answer.
func answered(a *engine.Answer, err error) error {
	if err == nil && !a.Positive() {
		return errDenied
	}
	return err
}

// answerText is an answer for people.
func answerText(a *engine.Answer) string {
	var b strings.Builder
	switch {
	case a.Kind == engine.KindRoute && len(a.Requests) == 0:
		b.WriteString("no route maps this request\n")
	case a.Kind == engine.KindRoute:
		word := "asks for"
		for _, r := range a.Requests {
			domain := r.Domain
			if domain == "" {
				domain = "<the domain that the server knows>"
			}
			fmt.Fprintf(&b, "%s %s:%s:%s:%s\n", word, domain, r.EntityType, r.Entity, r.Operation)
			word = "     and"
		}
	case a.Allowed:
		b.WriteString("allowed")
		if a.ScopeID != "" {
			b.WriteString(" by scope " + a.ScopeID)
		}
		b.WriteString("\n")
	default:
		b.WriteString("denied\n")
	}
	for _, r := range a.Reasons {
		fmt.Fprintf(&b, "  %s: %s\n", r.Code, r.Message)
	}
	for _, w := range a.Waived {
		how := "waived by the policy's manifest and the server"
		if w.Until != 0 {
			how = fmt.Sprintf("by an exception until %s: %s", time.Unix(w.Until, 0).UTC().Format(time.RFC3339), w.Because)
		}
		fmt.Fprintf(&b, "  in spite of %s, %s\n", w.Code, how)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Labels)) {
		fmt.Fprintf(&b, "  label %s: %s\n", name, a.Labels[name])
	}
	for _, w := range a.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	return b.String()
}
