package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"patrol/api"
	"patrol/models"
)

// The exit statuses.
const (
	statusDone   = 0 // or allowed
	statusDenied = 1
	statusError  = 2
)

// errDenied ends a command whose output has already said that the answer is no.
var errDenied = errors.New("denied")

// usageError marks a command line that was not understood.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// report tells what went wrong, if anything did, and returns the exit status.
func (p *process) report(ctx context.Context, err error) int {
	switch {
	case err == nil:
		return statusDone
	case errors.Is(err, errDenied):
		return statusDenied
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		_, _ = fmt.Fprintln(p.stderr, "patrol: interrupted")
		return statusError
	}
	_, _ = fmt.Fprintf(p.stderr, "patrol: %s\n", models.MaskSecrets(explain(err))) // nobody to tell if that fails
	if e, ok := errors.AsType[*api.Error](err); ok && (e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden) {
		return statusDenied
	}
	return statusError
}

// explain words an error for whoever typed the command.
func explain(err error) string {
	if e, ok := errors.AsType[*models.Error](err); ok {
		text := e.Message
		if len(e.Fields) > 0 {
			fields := make([]string, len(e.Fields))
			for i, f := range e.Fields {
				fields[i] = f.Field + ": " + f.Message
			}
			text = strings.Join(fields, "; ")
		}
		if cause := e.Unwrap(); cause != nil && (e.Code == models.CodeUnavailable || e.Code == models.CodeInternal) {
			text += ": " + cause.Error() // who has a shell on the server may see it, and there is no log
		}
		return withPrefix(err, e, text)
	}
	text := err.Error()
	if _, ok := errors.AsType[usageError](err); ok {
		return text
	}
	return strings.TrimSuffix(text, "\n")
}

// withPrefix puts what was wrapped around e before its text.
func withPrefix(err error, e *models.Error, text string) string {
	if prefix, ok := strings.CutSuffix(err.Error(), e.Error()); ok {
		return prefix + text
	}
	return text
}
