package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"patrol/models"
	"patrol/models/store"
	"patrol/policies/engine"
	"patrol/policies/engine/workbench"
)

// explaining is one run of the command that explains.
type explaining struct {
	recorded
	output
	input, decision string
	all             bool
}

func (p *process) policyExplainCommand() *cobra.Command {
	e := &explaining{recorded: recorded{process: p}}
	cmd := &cobra.Command{
		Use:   "explain [folder or archive]",
		Short: "Say why a policy answers as it does, and what would allow it",
		Long: `Say why a policy answers as it does: the reasons and the rules that give them, the rules and lines that ran, and for a
denial the smallest change that would allow it: which scope, role, membership or state. The change is found by trying: the policy allows the
request with the change made, and denies it with any less.

--decision explains a decision of the log by its id, on the input that it was made on. Without a policy named, that is under the revision which decided, if the
database still keeps it, and else under the policy inside this program; it says which.

` + inputHelp + `

The exit status is 0 if it is allowed, or mapped by a route, 1 if not, 2 if something went wrong.`,
		Example: `  patrol policy explain --input input.json
  patrol policy explain my-policy --input input.json --all
  patrol policy explain --decision 0VgJ3uKd2mXq8ZpA
  patrol policy explain my-policy --decision 0VgJ3uKd2mXq8ZpA --file decisions.jsonl`,
		Args: policyPath,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("decision") {
				return e.explainDecision(cmd, args)
			}
			if len(e.files) > 0 {
				return usagef("--file goes with --decision; --input takes an input, or one event")
			}
			return e.explainInput(cmd, args)
		},
	}
	cmd.Flags().StringVarP(&e.input, "input", "i", "-", "file with the input; - is standard input")
	cmd.Flags().StringVar(&e.decision, "decision", "", "explain the logged decision with this id")
	e.addFiles(cmd)
	cmd.Flags().BoolVar(&e.all, "all", false, "show the lines of rules that held as well, not only of those that did not")
	cmd.MarkFlagsMutuallyExclusive("input", "decision")
	addOutput(cmd, &e.output)
	return cmd
}

func (e *explaining) explainInput(cmd *cobra.Command, args []string) error {
	files, s, content, err := e.question(cmd, args, e.input)
	if err != nil {
		return err
	}
	x, err := workbench.Explain(cmd.Context(), s, content)
	if err != nil {
		return fmt.Errorf("policy %s: %w", files.Name, err)
	}
	if e.json() {
		err = e.printJSON(x)
	} else {
		err = e.printf("%s", printableLines(explanationText(files, x, e.all)))
	}
	return answered(&x.Answer, err)
}

// decisionExplained is a logged decision with its explanation, as JSON.
type decisionExplained struct {
	Event json.RawMessage `json:"event"` // of the decision log
	// Policy is which policy explains it; nil if none need be asked.
	Policy *explainedBy `json:"policy"`
	// Explanation is nil if the decision cannot be made again; Unexplained says why.
	Explanation *workbench.LoggedExplanation `json:"explanation"`
	Unexplained string                       `json:"unexplained,omitempty"`
}

// explainedBy is the policy that a decision is explained under.
type explainedBy struct {
	Name     string `json:"name"`
	Revision string `json:"revision"`
	Digest   string `json:"digest"`
	Decided  bool   `json:"decided"`        // it has the revision that decided
	Note     string `json:"note,omitempty"` // why it is this one, if that is not plain
	files    policyFiles
}

func (e *explaining) explainDecision(cmd *cobra.Command, args []string) error {
	ctx := cmd.Context()
	l, err := e.find(cmd, e.decision)
	if err != nil {
		return err
	}
	out := decisionExplained{Event: l.AppendEvent(nil, []byte("{}"))}
	allowed := l.Allowed
	if err := workbench.CheckReplayable(l); err != nil {
		out.Unexplained = err.Error()
	} else {
		if out.Policy, err = e.policyOf(cmd, args, l); err != nil {
			return err
		}
		s, err := out.Policy.files.load(ctx, e.stderr)
		if err != nil {
			return err
		}
		if out.Explanation, err = workbench.ExplainLogged(ctx, s, l); err != nil {
			return fmt.Errorf("policy %s: %w", out.Policy.Name, err)
		}
		out.Policy.Revision, out.Policy.Decided = s.Revision(), s.Revision() == l.Revision
		allowed = out.Explanation.Allowed
	}
	if e.json() {
		err = e.printJSON(out)
	} else {
		err = e.printf("%s", printableLines(e.decisionText(l, &out)))
	}
	if err == nil && !allowed {
		err = errDenied
	}
	return err
}

// policyOf reads the policy to explain a decision under.
func (e *explaining) policyOf(cmd *cobra.Command, args []string, l *models.LoggedDecision) (*explainedBy, error) {
	by := &explainedBy{}
	if len(args) == 0 {
		args = []string{nameEmbedded}
		if len(e.files) > 0 {
			by.Note = "none was named, and the decision is not from a database, which keeps policies as well"
		} else {
			digest, note, err := e.revisionOf(cmd, l)
			if err != nil {
				return nil, err
			}
			if by.Note = note; digest != "" {
				args = []string{nameRevision + digest}
			}
		}
	}
	var err error
	if by.files, err = e.openPolicy(cmd, args); err != nil {
		return nil, err
	}
	by.Name, by.Digest = by.files.Name, by.files.Digest()
	return by, nil
}

// revisionOf returns the digest of the kept revision that made a decision, "" if it is
// not kept, and what is to be said of it. Decisions name revisions as their authors do.
func (e *explaining) revisionOf(cmd *cobra.Command, l *models.LoggedDecision) (digest, note string, err error) {
	err = e.withStore(cmd, func(ctx context.Context, s *store.Store) error {
		kept, err := s.PolicyRevisions(ctx)
		if err != nil {
			return err
		}
		named := slices.DeleteFunc(kept, func(r store.PolicyRevision) bool { return r.Revision != l.Revision })
		switch {
		case len(named) == 0:
			note = "none was named, and the database does not keep that revision any more"
			return nil
		case len(named) > 1:
			note = fmt.Sprintf("of %d that are kept under this name, the one that was in force last", len(named))
		}
		digest = named[0].Digest
		return nil
	})
	return digest, note, err
}

// decisionText is an explained decision for people.
func (e *explaining) decisionText(l *models.LoggedDecision, x *decisionExplained) string {
	var b strings.Builder
	fmt.Fprintf(&b, "decision %s, %s, asked for at %s\n", l.ID, moment(&l.At), cmp.Or(l.Surface, "an unknown surface"))
	if l.Method != "" {
		fmt.Fprintf(&b, "  %s %s\n", l.Method, l.Path)
	}
	if l.Request.Domain+l.Request.EntityType != "" {
		fmt.Fprintf(&b, "  %s\n", l.Request.Scope())
	}
	if l.RequestID != "" {
		fmt.Fprintf(&b, "  request %s\n", l.RequestID)
	}
	if l.TokenID != "" {
		fmt.Fprintf(&b, "  token %s of user %s\n", l.TokenID, l.UserID)
	}
	then := engine.Answer{Kind: engine.KindDecision, Allowed: l.Allowed, Reasons: l.Reasons, ScopeID: l.ScopeID, Labels: l.Labels, Waived: l.Waived}
	fmt.Fprintf(&b, "decided then, under revision %s: %s", l.Revision, answerText(&then))
	if x.Explanation == nil {
		b.WriteString("\n" + x.Unexplained + "\n")
		return b.String()
	}
	which := "not the one that decided"
	if x.Policy.Decided {
		which = "the one that decided"
	}
	fmt.Fprintf(&b, "\nexplained under revision %s (%s), %s", x.Policy.Revision, x.Policy.Name, which)
	if x.Policy.Note != "" {
		b.WriteString(": " + x.Policy.Note)
	}
	b.WriteString("\n")
	if len(x.Explanation.Masked) > 0 {
		fmt.Fprintf(&b, "warning: the input is masked at %s; the policy judged something else there\n", strings.Join(x.Explanation.Masked, ", "))
	}
	if x.Explanation.Change != "" {
		fmt.Fprintf(&b, "warning: this is not what was decided then: %s\n", changeNames[x.Explanation.Change])
	}
	b.WriteString(explanationText(x.Policy.files, &x.Explanation.Explanation, e.all))
	return b.String()
}

// explanationText is an explanation for people.
func explanationText(files policyFiles, e *workbench.Explanation, all bool) string {
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

func writeChanges(b *strings.Builder, changes []workbench.Change) {
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
