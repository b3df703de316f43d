package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"patrol/models"
	"patrol/policies/engine/workbench"
)

// inspect reads the bundle that a command is given.
func (p *process) inspect(cmd *cobra.Command, args []string) (policyFiles, *workbench.Inspection, error) {
	files, err := p.openPolicy(cmd, args)
	if err != nil {
		return files, nil, err
	}
	in, err := workbench.Inspect(cmd.Context(), files.Source)
	if err != nil {
		return files, nil, files.refuse(cmd.Context(), err, cmd.ErrOrStderr())
	}
	return files, in, nil
}

func (p *process) policyInspectCommand() *cobra.Command {
	var out output
	var annotations bool
	cmd := &cobra.Command{
		Use:   "inspect [folder or archive]",
		Short: "Show what is in a policy: revision, entrypoints, reason codes, roles",
		Example: `  patrol policy inspect policy.tar.gz
  patrol policy inspect my-policy --annotations
  patrol policy inspect --output json`,
		Args: policyPath,
		RunE: func(cmd *cobra.Command, args []string) error {
			files, in, err := p.inspect(cmd, args)
			if err != nil {
				return err
			}
			if out.json() {
				return out.printJSON(in)
			}
			return printInspection(out, files, in, annotations)
		},
	}
	cmd.Flags().BoolVarP(&annotations, "annotations", "a", false, "list every rule and package that has metadata")
	addOutput(cmd, &out)
	return cmd
}

func printInspection(out output, files policyFiles, in *workbench.Inspection, annotations bool) error {
	tests, size := 0, 0
	for _, f := range in.Files {
		size += f.Size
		if f.Test {
			tests++
		}
	}
	if err := out.printf("revision      %s\ndigest        %s\nfiles         %d, %d of them tests, %d bytes\nentity types  %s\nroles         %s\nroutes        %d\n\n",
		printable(in.Revision), in.Digest, len(in.Files), tests, size,
		strings.Join(slices.Sorted(maps.Keys(in.Catalog.EntityTypes)), ", "), strings.Join(slices.Sorted(maps.Keys(in.Catalog.Roles)), ", "), in.Routes); err != nil {
		return err
	}
	if len(in.Waives) > 0 {
		if err := out.printf("waives        %s, where a server's gate.waive names it too\n\n", strings.Join(codeNames(in.Waives), ", ")); err != nil {
			return err
		}
	}
	where := func(r workbench.RuleInfo) string { return files.show(r.File) + ":" + strconv.Itoa(r.Line) }
	var entrypoints, codes, rules [][]string
	for _, r := range in.Rules {
		if r.Entrypoint {
			entrypoints = append(entrypoints, []string{r.Path, r.Title, where(r)})
		}
		if r.Code != "" {
			codes = append(codes, []string{r.Code, strconv.Itoa(models.ReasonCode(r.Code).Status()), r.Message, where(r)})
		}
		rules = append(rules, []string{r.Path, r.Scope, r.Title, where(r)})
	}
	tables := []struct {
		columns []column
		rows    [][]string
	}{
		{[]column{{title: "ENTRYPOINT"}, {title: "TITLE", shrink: true}, {title: "WHERE"}}, entrypoints},
		{[]column{{title: "CODE"}, {title: "STATUS"}, {title: "MESSAGE", shrink: true}, {title: "WHERE"}}, codes},
	}
	if annotations {
		tables = append(tables, struct {
			columns []column
			rows    [][]string
		}{[]column{{title: "PATH"}, {title: "SCOPE"}, {title: "TITLE", shrink: true}, {title: "WHERE"}}, rules})
	}
	for i, t := range tables {
		if i > 0 {
			if err := out.printf("\n"); err != nil {
				return err
			}
		}
		if err := out.printTable(t.columns, t.rows); err != nil {
			return err
		}
	}
	return nil
}

func (p *process) policyDocsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "docs [folder or archive]",
		Short: "Write a policy down in Markdown: rules, reason codes, roles",
		Long: `Write a policy down in Markdown, from its metadata and data: who may do what, every reason code and every rule. Whoever may ask why a request
was denied can be sent there.`,
		Example: `  patrol policy docs my-policy > policy.md`,
		Args:    policyPath,
		RunE: func(cmd *cobra.Command, args []string) error {
			_, in, err := p.inspect(cmd, args)
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), policyMarkdown(in))
			return err
		},
	}
	return cmd
}

// policyMarkdown writes an inspection down.
func policyMarkdown(in *workbench.Inspection) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Policy\n\nRevision `%s`.\n\n## Who may do what\n\n", in.Revision)
	roles := slices.Sorted(maps.Keys(in.Catalog.Roles))
	b.WriteString("| | |")
	for _, role := range roles {
		fmt.Fprintf(&b, " %s |", cell(role))
	}
	b.WriteString(" platform admin |\n| --- | --- |" + strings.Repeat(" --- |", len(roles)+1) + "\n")
	for _, name := range slices.Sorted(maps.Keys(in.Catalog.EntityTypes)) {
		entityType := in.Catalog.EntityTypes[name]
		for _, operation := range slices.Sorted(maps.Keys(entityType.Operations)) {
			fmt.Fprintf(&b, "| `%s/%s` | %s: %s |", name, operation, cell(entityType.Title), cell(entityType.Operations[operation].Title))
			for _, role := range roles {
				if in.Catalog.Roles[role].Permits(name, operation) {
					b.WriteString(" yes |")
				} else {
					b.WriteString(" |")
				}
			}
			b.WriteString(" yes |\n")
		}
	}
	b.WriteString("\nA token does what its owner's role and its own scopes both permit.\n\n## Why a request is denied\n\n| code | status | what the holder of the token is told |\n| --- | --- | --- |\n")
	codes := slices.DeleteFunc(slices.Clone(in.Rules), func(r workbench.RuleInfo) bool { return r.Code == "" })
	slices.SortStableFunc(codes, func(a, b workbench.RuleInfo) int { return strings.Compare(a.Code, b.Code) })
	for _, r := range codes {
		fmt.Fprintf(&b, "| `%s` | %d | %s |\n", r.Code, models.ReasonCode(r.Code).Status(), cell(r.Message))
	}
	if len(in.Waives) > 0 {
		fmt.Fprintf(&b, "\nThe manifest waives `%s`: where a server's `gate.waive` names the same, it may be allowed in spite of it.\n", strings.Join(codeNames(in.Waives), "`, `"))
	}
	b.WriteString("\n## The rules\n")
	for _, r := range in.Rules {
		switch r.Scope {
		case "package", "subpackages":
			fmt.Fprintf(&b, "\n### %s: `%s`\n\n", cell(r.Title), r.Path)
			if r.Description != "" {
				b.WriteString(r.Description + "\n\n")
			}
			continue
		}
		fmt.Fprintf(&b, "- **%s** `%s`", cell(r.Title), strings.TrimPrefix(r.Path, "data.patrol."))
		if r.Code != "" {
			fmt.Fprintf(&b, " gives `%s`", r.Code)
		}
		if r.Entrypoint {
			b.WriteString(" (the server asks for it)")
		}
		fmt.Fprintf(&b, ", %s:%d\n", r.File, r.Line)
		if r.Description != "" {
			b.WriteString("\n  " + strings.ReplaceAll(r.Description, "\n", "\n  ") + "\n\n")
		}
	}
	return b.String()
}

func codeNames(codes []models.ReasonCode) []string {
	names := make([]string, len(codes))
	for i, code := range codes {
		names[i] = string(code)
	}
	return names
}

// cell is text inside a Markdown table.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(text)
}
