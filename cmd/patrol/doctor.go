package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"patrol/cmd/patrol/config"
)

// verdict is the outcome of one check of the doctor.
type verdict string

const (
	well    verdict = "ok"
	warning verdict = "warning" // it works, and will or may not
	failed  verdict = "failed"  // it does not work, or not safely
	skipped verdict = "skipped" // it could not be looked at, or there is nothing to look at
)

// finding is the result of a check.
type finding struct {
	Check  string  `json:"check"`
	Result verdict `json:"result"`
	Found  string  `json:"found"`
	Do     string  `json:"do,omitempty"` // what to do about it
}

// examination is the output of `patrol doctor -o json`.
type examination struct {
	Result   verdict   `json:"result"` // the worst of the findings
	Findings []finding `json:"findings"`
}

// doctor looks at an installation. It changes nothing.
type doctor struct {
	*process
	cfg      config.Config
	now      time.Time
	findings []finding
}

// doctorTime bounds each check that asks somebody.
const doctorTime = 10 * time.Second

func (p *process) doctorCommand() *cobra.Command {
	var o output
	var strict bool
	cmd := &cobra.Command{
		Use:     "doctor",
		GroupID: groupServer,
		Short:   "Look at the installation, and say what to do",
		Long: `Look at the installation that the settings describe: settings, rights of files, disks, database, schema, connections, clock, token keys, policy,
TLS, proxies, upstreams. Each line says what was found and, if something is wrong, what to do about it. Nothing is changed. Run it as the user and with
the settings of the server; the server may run or not.

The exit status is 0 if nothing failed (with --strict: if there is no warning either), 1 if something did, 2 if the command line is wrong.`,
		Example: `  patrol doctor --config /etc/patrol/patrol.yaml
  patrol doctor --strict -o json`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := doctor{process: p, now: time.Now()}
			d.examine(cmd)
			worst := d.worst()
			if err := d.tell(o, worst); err != nil {
				return err
			}
			if worst == failed || strict && worst == warning {
				return errDenied
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&strict, "strict", false, "have a warning end with status 1, too")
	addOutput(cmd, &o)
	return cmd
}

// examine makes all checks.
func (d *doctor) examine(cmd *cobra.Command) {
	ctx := cmd.Context()
	cfg, err := d.settings(cmd)
	if err != nil {
		d.add("settings", failed, explain(err), "correct them; docs/configuration.md and 'patrol config --reference' say what each means")
		return
	}
	d.cfg = cfg
	from := "defaults, environment and flags"
	if file := cfg.SettingsFile(); file != "" {
		from = file + ", environment and flags"
	}
	d.add("settings", well, "read from "+from, "")
	d.checkFiles()
	d.checkDisks()
	d.checkLimits()
	d.checkDatabase(ctx)
	d.checkPolicy(ctx)
	d.checkTLS()
	d.checkProxies()
	d.checkUpstreams(ctx)
	d.checkServer(ctx)
}

func (d *doctor) add(check string, result verdict, found, do string) {
	d.findings = append(d.findings, finding{Check: check, Result: result, Found: oneLine(found), Do: oneLine(do)})
}

// oneLine makes a text that may have several lines one.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func (d *doctor) worst() verdict {
	worst := well
	for _, f := range d.findings {
		if f.Result == failed || f.Result == warning && worst == well {
			worst = f.Result
		}
	}
	return worst
}

// tell prints the findings.
func (d *doctor) tell(o output, worst verdict) error {
	if o.json() {
		return o.printJSON(examination{Result: worst, Findings: d.findings})
	}
	var errs []error
	for _, f := range d.findings {
		errs = append(errs, o.printf("%-8s %-12s %s\n", f.Result, f.Check, printable(f.Found)))
		if f.Do != "" {
			errs = append(errs, o.printf("%-21s → %s\n", "", printable(f.Do)))
		}
	}
	return errors.Join(errs...)
}

// within calls a check that asks somebody.
func within(ctx context.Context, check func(context.Context)) {
	ctx, cancel := context.WithTimeout(ctx, doctorTime)
	defer cancel()
	check(ctx)
}
