package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"patrol/policies/engine/workbench"
)

// policyTests holds the options of `policy test`.
type policyTests struct {
	output
	opts     workbench.TestOptions
	open     func() (policyFiles, error)
	verbose  bool
	coverage bool
	junit    string
	least    float64
	stderr   func(format string, args ...any)
}

func (p *process) policyTestCommand() *cobra.Command {
	t := &policyTests{}
	var watch bool
	cmd := &cobra.Command{
		Use:   "test [folder or archive]",
		Short: "Run the tests of a policy",
		Long: `Run the tests of a policy: the rules whose names begin with test_, in files named …_test.rego. They run under the built-in functions that
the policy has on a server, and an error in one of those is an error of the test, as it would be of a decision.

The exit status is 0 if all pass, 1 if not or if there are none, 2 if something went wrong.`,
		Example: `  patrol policy test my-policy
  patrol policy test my-policy --watch
  patrol policy test my-policy --run authz_test.test_deny -v
  patrol policy test my-policy --coverage --min-coverage 100 --junit report.xml`,
		Args: policyPath,
		RunE: func(cmd *cobra.Command, args []string) error {
			t.open = func() (policyFiles, error) { return p.openPolicy(cmd, args) }
			t.stderr = func(format string, args ...any) { fmt.Fprintf(cmd.ErrOrStderr(), format, args...) }
			if t.least < 0 || t.least > 100 {
				return usagef("--min-coverage is in percent, 0 to 100")
			}
			if watch {
				return t.watch(cmd.Context())
			}
			files, err := t.open()
			if err != nil {
				return err
			}
			return t.run(cmd.Context(), files)
		},
	}
	cmd.Flags().StringVar(&t.opts.Run, "run", "", "run only the tests whose package and name match this regular expression")
	cmd.Flags().DurationVar(&t.opts.Timeout, "test-timeout", workbench.DefaultTestTimeout, "how long each test may take")
	cmd.Flags().BoolVarP(&t.verbose, "verbose", "v", false, "list the tests that pass as well, and what they print")
	cmd.Flags().BoolVar(&t.coverage, "coverage", false, "list the lines of the policy that no test runs")
	cmd.Flags().Float64Var(&t.least, "min-coverage", 0, "fail if less of the policy is run, in percent of lines")
	cmd.Flags().StringVar(&t.junit, "junit", "", "also write the results into this file, as JUnit XML")
	cmd.Flags().BoolVar(&watch, "watch", false, "run again whenever a file changes, until interrupted")
	addOutput(cmd, &t.output)
	return cmd
}

// run runs the tests once.
func (t *policyTests) run(ctx context.Context, files policyFiles) error {
	tests, coverage, findings, err := workbench.RunTests(ctx, files.Source, t.opts)
	if err != nil {
		return err
	}
	if tests == nil {
		if t.json() {
			if err := t.printJSON(map[string]any{"findings": findings}); err != nil {
				return err
			}
		}
		for _, f := range findings {
			t.stderr("%s [%s]\n", printable(files.at(f).String()), f.Code)
		}
		return errDenied
	}
	if t.junit != "" {
		if err := writeJUnit(t.junit, files, tests); err != nil {
			return err
		}
	}
	if t.json() {
		err = t.printJSON(map[string]any{"tests": tests, "coverage": coverage})
	} else {
		err = t.print(files, tests, coverage)
	}
	switch {
	case err != nil:
		return err
	case tests.Failed > 0 || tests.Passed == 0 || coverage.Percent < t.least:
		return errDenied
	}
	return nil
}

func (t *policyTests) print(files policyFiles, r *workbench.TestReport, c *workbench.CoverageReport) error {
	var b strings.Builder
	for _, test := range r.Tests {
		switch {
		case test.Outcome == workbench.Failed:
			fmt.Fprintf(&b, "%s: FAIL %s: %s\n", position(files, test), test.Title(), test.Message)
		case test.Outcome == workbench.Skipped:
			fmt.Fprintf(&b, "%s: skipped %s\n", position(files, test), test.Title())
		case t.verbose:
			fmt.Fprintf(&b, "%s: pass %s (%s)\n", position(files, test), test.Title(), seconds(test.Seconds))
		default:
			continue
		}
		if test.Output != "" && (t.verbose || test.Outcome == workbench.Failed) {
			fmt.Fprintf(&b, "    %s\n", strings.ReplaceAll(strings.TrimSpace(test.Output), "\n", "\n    "))
		}
	}
	low := c.Percent < t.least
	if t.coverage || low {
		b.WriteString(uncovered(files, c))
	}
	fmt.Fprintf(&b, "%s; %.1f%% of the policy's lines covered\n", testSum(r), c.Percent)
	if r.Passed+r.Failed == 0 {
		b.WriteString("no test ran\n")
	}
	if low {
		fmt.Fprintf(&b, "%g%% are required\n", t.least)
	}
	return t.printf("%s", printableLines(b.String()))
}

func position(files policyFiles, t workbench.TestResult) string {
	return files.show(t.File) + ":" + strconv.Itoa(t.Line) + ":" + strconv.Itoa(t.Column)
}

func testSum(r *workbench.TestReport) string {
	text := fmt.Sprintf("%d passed", r.Passed)
	if r.Failed > 0 {
		text += fmt.Sprintf(", %d failed", r.Failed)
	}
	if r.Skipped > 0 {
		text += fmt.Sprintf(", %d skipped", r.Skipped)
	}
	return text
}

// watchEvery is the interval at which files are looked at for changes.
const watchEvery = 300 * time.Millisecond

// watch runs the tests now and after each change, until ctx ends, which is how it
// is meant to end.
func (t *policyTests) watch(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var last map[string][]byte
	failed := ""
	for {
		files, err := t.open()
		switch {
		case ctx.Err() != nil:
			return nil // interrupted, as it is meant to be
		case err != nil && last == nil:
			return err
		case err != nil: // a file is just being written, or gone for good
			if failed != err.Error() {
				failed = err.Error()
				t.stderr("patrol: %s\n", failed)
			}
		case failed != "" || last == nil || !maps.EqualFunc(last, files.Files, bytes.Equal):
			last, failed = files.Files, ""
			if err := t.run(ctx, files); err != nil && !errors.Is(err, errDenied) {
				if ctx.Err() != nil {
					return nil // interrupted, as it is meant to be
				}
				return err
			}
			t.stderr("Waiting for changes. Ctrl-C ends.\n")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// The elements of JUnit's XML, as far as the CI systems that read it agree.
type (
	junitSuites struct {
		XMLName xml.Name `xml:"testsuites"`
		junitCounts
		Suites []*junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name string `xml:"name,attr"`
		junitCounts
		Cases []junitCase `xml:"testcase"`
	}
	junitCounts struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Skipped  int `xml:"skipped,attr"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		File    string        `xml:"file,attr"`
		Line    int           `xml:"line,attr"`
		Time    string        `xml:"time,attr"`
		Failure *junitFailure `xml:"failure,omitempty"`
		Skipped *struct{}     `xml:"skipped,omitempty"`
		Output  string        `xml:"system-out,omitempty"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// writeJUnit writes results, one suite for each package.
func writeJUnit(name string, files policyFiles, r *workbench.TestReport) error {
	doc := &junitSuites{junitCounts: junitCounts{r.Passed + r.Failed + r.Skipped, r.Failed, r.Skipped}}
	for _, t := range r.Tests {
		if n := len(doc.Suites); n == 0 || doc.Suites[n-1].Name != t.Package {
			doc.Suites = append(doc.Suites, &junitSuite{Name: t.Package})
		}
		suite := doc.Suites[len(doc.Suites)-1]
		one := junitCase{
			Class: t.Package, Name: t.Title(), File: files.show(t.File), Line: t.Line,
			Time: strconv.FormatFloat(t.Seconds, 'f', 6, 64), Output: t.Output,
		}
		suite.Tests++
		switch t.Outcome {
		case workbench.Failed:
			suite.Failures++
			one.Failure = &junitFailure{t.Message, position(files, t) + ": " + t.Message}
		case workbench.Skipped:
			suite.Skipped++
			one.Skipped = &struct{}{}
		}
		suite.Cases = append(suite.Cases, one)
	}
	content, err := xml.MarshalIndent(doc, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := os.WriteFile(name, append([]byte(xml.Header), append(content, '\n')...), 0o644); err != nil { //nolint:gosec // G306: a report for others to read
		return fmt.Errorf("write the JUnit report: %w", err)
	}
	return nil
}
