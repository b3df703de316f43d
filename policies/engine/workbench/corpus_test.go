//go:build !race

package workbench_test

import (
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"patrol/policies/engine/workbench"
)

// slip is a rule as somebody writes it, with what the gate says of it.
type slip struct {
	Name string `json:"name"`
	File string `json:"file"` // custom/rule.rego if it is not said
	// Files are others beside it.
	Files map[string]string `json:"files"`
	// Rego is the file; where it names no package it is one of package patrol.custom.
	Rego string `json:"rego"`
	// Want is the code of what is found, "" if it passes; Line is where. Warn is of what it
	// passes with.
	Want string `json:"want"`
	Warn string `json:"warn"`
	Line int    `json:"line"`
}

// TestCorpus holds that the gate finds what people do wrong, and nothing else.
func TestCorpus(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("testdata/slips.yaml")
	require.NoError(t, err)
	var corpus []slip
	require.NoError(t, yaml.UnmarshalStrict(content, &corpus))
	require.GreaterOrEqual(t, len(corpus), 490)
	for _, c := range corpus {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			if c.File == "" {
				c.File = "custom/rule.rego"
			}
			if !strings.HasPrefix(c.Rego, "package ") && strings.HasSuffix(c.File, ".rego") {
				c.Rego = "package patrol.custom\n" + c.Rego // so that its first line is the second
			}
			files := map[string]string{c.File: c.Rego}
			maps.Copy(files, c.Files)
			r, err := workbench.CheckRules(t.Context(), bundle(t, files))
			require.NoError(t, err)
			all, want := r.Findings, c.Want
			if c.Want == "" {
				assert.Empty(t, found(r))
				all, want = r.Warnings, c.Warn
			}
			if want == "" {
				return
			}
			for _, f := range all {
				if f.Code == want && f.File == c.File && (c.Line == 0 || f.Line == c.Line) {
					return
				}
			}
			t.Errorf("no %s at line %d: %v", want, c.Line, all)
		})
	}
}
