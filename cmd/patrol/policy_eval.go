package main

import (
	"fmt"
	"strings"

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
	files, err := openPolicy(cmd.Context(), args)
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
	case a.Kind == engine.KindRoute && a.Request == nil:
		b.WriteString("no route maps this request\n")
	case a.Kind == engine.KindRoute:
		domain := a.Request.Domain
		if domain == "" {
			domain = "<the domain that the server knows>"
		}
		fmt.Fprintf(&b, "asks for %s:%s:%s:%s\n", domain, a.Request.EntityType, a.Request.Entity, a.Request.Operation)
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
	for _, w := range a.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	return b.String()
}

func (p *process) policyExplainCommand() *cobra.Command {
	var out output
	var inputName string
	var all bool
	cmd := &cobra.Command{
		Use:   "explain [folder or archive]",
		Short: "Say why a policy answers as it does, and what would allow it",
		Long: `Ask a policy about one input, and say why it answers as it does: the reasons and the rules that give them, the rules and lines that ran, and for a
denial the smallest change that would allow it: which scope, role, membership or state. The change is found by trying: the policy allows the
request with the change made, and denies it with any less.

` + inputHelp + `

The exit status is 0 if it is allowed, or mapped by a route, 1 if not, 2 if something went wrong.`,
		Example: `  patrol policy explain --input input.json
  patrol policy explain my-policy --input input.json --all`,
		Args: policyPath,
		RunE: func(cmd *cobra.Command, args []string) error {
			files, s, content, err := p.question(cmd, args, inputName)
			if err != nil {
				return err
			}
			e, err := s.Explain(cmd.Context(), content)
			if err != nil {
				return fmt.Errorf("policy %s: %w", files.Name, err)
			}
			if out.json() {
				err = out.printJSON(e)
			} else {
				err = out.printf("%s", printableLines(explanationText(files, e, all)))
			}
			return answered(&e.Answer, err)
		},
	}
	cmd.Flags().StringVarP(&inputName, "input", "i", "-", "file with the input; - is standard input")
	cmd.Flags().BoolVar(&all, "all", false, "show the lines of rules that held as well, not only of those that did not")
	addOutput(cmd, &out)
	return cmd
}

// explanationText is an explanation for people.
func explanationText(files policyFiles, e *engine.Explanation, all bool) string {
	var b strings.Builder
	b.WriteString(answerText(&e.Answer))
	for _, r := range e.Because {
		fmt.Fprintf(&b, "%s:%d: the rule that gives %s\n", files.show(r.File), r.Line, r.Code)
	}
	if r := e.Remedy; r != nil {
		b.WriteString("\nIt would be allowed if:\n")
		writeChanges(&b, r.Changes)
		for _, way := range r.Alternatives {
			b.WriteString("or if:\n")
			writeChanges(&b, way)
		}
	} else if e.Kind == engine.KindDecision && !e.Allowed {
		b.WriteString("\nNo change of scopes, role, membership or state would allow it.\n")
	}
	b.WriteString("\nWhat ran (+ held, - did not):\n")
	for _, rule := range e.Rules {
		fmt.Fprintf(&b, "%s %s:%d: %s", mark(rule.Held), files.show(rule.File), rule.Line, strings.TrimPrefix(rule.Rule, "data.patrol."))
		if rule.Title != "" {
			b.WriteString(" (" + rule.Title + ")")
		}
		b.WriteString("\n")
		for _, line := range rule.Lines {
			if all || !rule.Held {
				fmt.Fprintf(&b, "  %s %s:%d:%d: %s\n", mark(line.Held), files.show(rule.File), line.Line, line.Column, line.Text)
			}
		}
	}
	return b.String()
}

func writeChanges(b *strings.Builder, changes []engine.Change) {
	for _, c := range changes {
		fmt.Fprintf(b, "  - %s\n", c.Title)
		if c.Command != "" {
			fmt.Fprintf(b, "      %s\n", c.Command)
		}
	}
}

func mark(held bool) string {
	if held {
		return "+"
	}
	return "-"
}
