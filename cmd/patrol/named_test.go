package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
)

// TestNoCommandActsOnWhatIsEmpty walks all commands, with each of their arguments and
// flags given and empty, as an unset variable of a script gives it.
func TestNoCommandActsOnWhatIsEmpty(t *testing.T) {
	run := func(args ...string) (status int, stderr string) {
		var out, errs bytes.Buffer
		p := &process{name: "patrol", args: args, environ: []string{"HOME=" + t.TempDir()}, stdin: strings.NewReader(""), stdout: &out, stderr: &errs}
		status = p.run(t.Context())
		assert.Empty(t, out.String(), "%q prints nothing", args)
		return status, errs.String()
	}
	tried := 0
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
		if !cmd.Runnable() || cmd.HasSubCommands() {
			return
		}
		path := strings.Fields(cmd.CommandPath())[1:]
		for _, nothing := range []string{"", " ", "\t"} {
			slots := len(regexp.MustCompile(`<[^>]+>`).FindAllString(cmd.Use, -1))
			for i := range slots {
				args := append([]string{}, path...)
				for j := range slots {
					args = append(args, map[bool]string{true: nothing, false: "something"}[i == j])
				}
				status, stderr := run(args...)
				assert.Equal(t, 2, status, "%q", args)
				assert.Contains(t, stderr, "is empty", "%q", args)
				tried++
			}
			flags := func(f *pflag.Flag) {
				if kind := f.Value.Type(); kind != "string" && kind != "stringArray" && kind != "stringSlice" {
					return
				}
				status, stderr := run(append(append([]string{}, path...), "--"+f.Name+"="+nothing)...)
				assert.Equal(t, 2, status, "%q --%s=%q", path, f.Name, nothing)
				assert.Contains(t, stderr, "--"+f.Name+" is empty", "%q", path)
				tried++
			}
			cmd.LocalFlags().VisitAll(flags)
			cmd.InheritedFlags().VisitAll(flags)
		}
	}
	walk((&process{}).command())
	assert.Greater(t, tried, 500)
}
