package models

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// Tombstone says, outside of the database, that something was taken away: a copy
// of the audit event that went with it. A database that was restored to an earlier
// time lacks the event, and has what was taken away again.
type Tombstone struct {
	At      time.Time         `json:"at"`
	Action  string            `json:"action"`
	Subject string            `json:"subject"`
	Detail  map[string]string `json:"detail,omitempty"`
	// Until is from when on the tombstone matters to nobody, since the token would
	// have expired; nil: it always does.
	Until *time.Time `json:"until,omitempty"`
}

// EndedToken returns the id of the token that is no good any more, and from when
// on; "" if the tombstone is about something else.
func (t Tombstone) EndedToken() (id string, at time.Time) {
	id, ok := strings.CutPrefix(t.Subject, "pat:")
	switch {
	case !ok:
	case t.Action == "pat.revoke":
		return id, t.At
	case t.Action == "pat.rotate":
		grace, err := time.ParseDuration(t.Detail["grace"])
		if err != nil || grace <= 0 { // fail closed
			return id, t.At
		}
		return id, t.At.Add(grace + time.Second - 1).Truncate(time.Second)
	}
	return "", time.Time{}
}

type warningsKey struct{}

// Warnings collects what went wrong beside something that was done.
type Warnings struct {
	mu    sync.Mutex
	texts []string
}

// WithWarnings returns a context under which [Warn] adds to w.
func WithWarnings(ctx context.Context, w *Warnings) context.Context {
	return context.WithValue(ctx, warningsKey{}, w)
}

// Warn tells whoever asked for what is done under ctx that it was done, but not
// without a fault. The text is in ASCII and safe to show to them.
func Warn(ctx context.Context, text string) {
	if w, ok := ctx.Value(warningsKey{}).(*Warnings); ok {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !slices.Contains(w.texts, text) {
			w.texts = append(w.texts, text)
		}
	}
}

// Texts returns the warnings so far.
func (w *Warnings) Texts() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.texts)
}
