package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
)

// disableListed disables the accounts that a file names, one id or email address a line. Empty
// lines and those that begin with # do not count. All names are looked up before anything is
// done; of those that are not known it tells, and does the rest.
func (o *operator) disableListed(ctx context.Context, cmd *cobra.Command, path string, revokeTokens bool) error {
	from := cmd.InOrStdin()
	if path != "-" {
		f, err := os.Open(path) //nolint:gosec // the operator names the file
		if err != nil {
			return usagef("%w", err)
		}
		defer func() { _ = f.Close() }()
		from = f
	}
	var listed []models.User
	var problems []error
	lines := bufio.NewScanner(from)
	for n := 1; lines.Scan(); n++ {
		name := strings.TrimSpace(lines.Text())
		if name == "" || strings.HasPrefix(name, "#") {
			continue
		}
		u, err := o.findUser(ctx, name)
		switch models.CodeOf(err) {
		case "":
			listed = append(listed, u)
		case models.CodeNotFound:
			problems = append(problems, fmt.Errorf("line %d: there is no user %q", n, printable(name)))
		default:
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	yes := true
	var done []models.User
	for _, u := range listed {
		disabled, err := o.store.UpdateUser(ctx, o.by, u.ID, store.UserPatch{Disabled: &yes, RevokeTokens: revokeTokens})
		switch models.CodeOf(err) {
		case "":
			done = append(done, disabled)
		case models.CodeConflict: // the last admin
			problems = append(problems, fmt.Errorf("%s: %w", u.Email, err))
		default:
			return err
		}
	}
	var err error
	switch {
	case o.json():
		out := make([]api.User, len(done))
		for i, u := range done {
			out[i] = api.UserOf(u)
		}
		err = o.printJSON(out)
	case len(done) > 0:
		err = o.printUsers(done...)
	}
	return errors.Join(append([]error{err}, problems...)...)
}
