package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/models"
)

// Decide judges one request on the facts at the time now, which becomes
// `input.now`. It fills what the policy says: Allowed, Reasons, ScopeID, Headers
// and Revision. Anything that is not a well-formed decision document is an error,
// and so are a request that [models.Request.Validate] refuses, a context that is
// not JSON, a failing built-in function, a timeout (see [ErrTimeout]) and the end
// of ctx. Callers treat an error as a denial.
func (s *Snapshot) Decide(ctx context.Context, req models.Request, f Facts, now time.Time) (models.Decision, error) {
	if err := req.Validate(); err != nil {
		return models.Decision{}, fmt.Errorf("judge a request: %w", err)
	}
	q, err := s.askDecision(req, f, now)
	if err != nil {
		return models.Decision{}, err
	}
	d, err := s.answerTo(ctx, q)
	q.end()
	return d, err
}

// DecideInput judges an input that is one document.
func (s *Snapshot) DecideInput(ctx context.Context, input *ast.Term) (models.Decision, error) {
	return s.answerTo(ctx, &question{doc: input})
}

func (s *Snapshot) answerTo(ctx context.Context, q *question) (models.Decision, error) {
	v, err := s.evalOn(ctx, s.decision, q)
	if err != nil {
		return models.Decision{}, err
	}
	d, err := ReadDecision(v)
	if err != nil {
		return models.Decision{}, fmt.Errorf("%s is malformed: %w", DecisionRef, err)
	}
	if d.Allowed {
		err = s.uphold(ctx, q, &d)
	} else {
		err = s.unforged(ctx, q, &d)
	}
	if err != nil {
		return models.Decision{}, err
	}
	d.Revision = s.revision
	return d, nil
}

// ReadDecision reads {"allow", "reasons", "scope"?, "headers"?, "labels"?} and nothing else.
func ReadDecision(v ast.Value) (d models.Decision, err error) {
	obj, ok := v.(ast.Object)
	if !ok {
		return d, fmt.Errorf("it is %s, not an object", ast.ValueName(v))
	}
	allow, reasons := obj.Get(key.allow), obj.Get(key.reasons)
	if allow == nil || reasons == nil {
		return d, errors.New("it must have allow and reasons")
	}
	fields := 2
	verdict, ok := allow.Value.(ast.Boolean)
	if !ok {
		return d, errors.New("allow is not true or false")
	}
	d.Allowed = bool(verdict)
	if d.Reasons, err = readReasons(reasons.Value); err != nil {
		return d, err
	}
	if scope := obj.Get(key.scope); scope != nil {
		fields++
		if d.ScopeID, err = readString("scope", scope); err != nil {
			return d, err
		}
	}
	if headers := obj.Get(key.headers); headers != nil {
		fields++
		if d.Headers, err = readHeaders(headers.Value); err != nil {
			return d, err
		}
	}
	if labels := obj.Get(key.labels); labels != nil {
		fields++
		if d.Labels, err = readLabels(labels.Value); err != nil {
			return d, err
		}
	}
	switch {
	case obj.Len() != fields:
		return d, fmt.Errorf("it has other fields than allow, reasons, scope, headers and labels: %v", obj.Keys())
	case d.Allowed && len(d.Reasons) > 0:
		return d, errors.New("it allows and has reasons not to")
	case !d.Allowed && len(d.Reasons) == 0:
		return d, errors.New("it denies without a reason")
	case !d.Allowed && (d.ScopeID != "" || d.Headers != nil):
		return d, errors.New("it denies, yet has scope or headers")
	}
	return d, nil
}

// readReasons reads an array or a set (the same in JSON) of {"code", "message"}
// and sorts it by code.
func readReasons(v ast.Value) ([]models.Reason, error) {
	list, ok := v.(interface {
		Len() int
		Foreach(func(*ast.Term))
	})
	if !ok {
		return nil, errors.New("reasons is not an array")
	}
	if list.Len() == 0 {
		return nil, nil
	}
	reasons := make([]models.Reason, 0, list.Len())
	var err error
	list.Foreach(func(t *ast.Term) {
		r, rerr := readReason(t.Value)
		err = cmp.Or(err, rerr)
		reasons = append(reasons, r)
	})
	slices.SortFunc(reasons, func(a, b models.Reason) int {
		return cmp.Or(cmp.Compare(a.Code, b.Code), cmp.Compare(a.Message, b.Message))
	})
	// A denial remains one with fewer of its reasons. Those that say who asks come first,
	// for they decide what the caller is told.
	if len(reasons) > maxReasons {
		slices.SortStableFunc(reasons, func(a, b models.Reason) int { return cmp.Compare(a.Code.Status(), b.Code.Status()) })
		reasons = slices.Clone(reasons[:maxReasons])
	}
	return reasons, err
}

// The bounds of the reasons of a denial. What is beyond them is left out.
const (
	maxReasons = 64
	MaxMessage = 1000 // bytes
)

func readReason(v ast.Value) (models.Reason, error) {
	obj, ok := v.(ast.Object)
	if !ok || obj.Len() != 2 {
		return models.Reason{}, errors.New("a reason is not an object of code and message")
	}
	code, err := readString("a reason's code", obj.Get(key.code))
	if err != nil {
		return models.Reason{}, err
	}
	if !IsReasonCode(code) {
		return models.Reason{}, fmt.Errorf("a reason's code is %.80q; codes are 1 to 64 of a-z, 0-9 and _, letters first", code)
	}
	if !models.ReasonCode(code).OfPolicy() {
		return models.Reason{}, fmt.Errorf("a reason's code is %s, which is Patrol's own, for what no policy decides", code)
	}
	message, err := readString("a reason's message", obj.Get(key.message))
	return models.Reason{Code: models.ReasonCode(code), Message: plain(message, MaxMessage)}, err
}

// IsReasonCode reports whether s can be the code of a reason.
func IsReasonCode(s string) bool {
	return s != "" && len(s) <= 64 && s[0] >= 'a' && s[0] <= 'z' && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// readString reads a string that is not empty.
func readString(what string, t *ast.Term) (string, error) {
	if t != nil {
		if s, ok := t.Value.(ast.String); ok && s != "" {
			return string(s), nil
		}
	}
	return "", fmt.Errorf("%s is not a text", what)
}

// The bounds of labels.
const (
	maxLabels     = 16
	maxLabelValue = 256 // bytes
)

// readLabels reads an object of names, spelled as codes are, and texts.
func readLabels(v ast.Value) (map[string]string, error) {
	obj, ok := v.(ast.Object)
	if !ok || obj.Len() > maxLabels {
		return nil, fmt.Errorf("labels is not an object of at most %d texts", maxLabels)
	}
	if obj.Len() == 0 {
		return nil, nil
	}
	labels := make(map[string]string, obj.Len())
	err := obj.Iter(func(k, x *ast.Term) error {
		name, _ := k.Value.(ast.String)
		value, ok := x.Value.(ast.String)
		switch {
		case name == "" || !IsReasonCode(string(name)):
			return fmt.Errorf("labels: %.80q is no name; names are 1 to 64 of a-z, 0-9 and _, letters first", string(name))
		case !ok || len(value) > maxLabelValue:
			return fmt.Errorf("labels: %s is not a text of at most %d bytes", string(name), maxLabelValue)
		}
		labels[string(name)] = plain(string(value), maxLabelValue)
		return nil
	})
	return labels, err
}

// readHeaders reads an object of header names and values, which are for the
// upstream: see [models.CheckPolicyHeader].
func readHeaders(v ast.Value) (map[string]string, error) {
	obj, ok := v.(ast.Object)
	if !ok {
		return nil, errors.New("headers is not an object")
	}
	headers := make(map[string]string, obj.Len())
	seen := make(map[string]bool, obj.Len())
	err := obj.Iter(func(k, x *ast.Term) error {
		name, _ := k.Value.(ast.String)
		value, ok := x.Value.(ast.String)
		lower := strings.ToLower(string(name))
		switch {
		case !ok:
			return fmt.Errorf("headers: the value of %v is not a text", k)
		case seen[lower]:
			return fmt.Errorf("headers: %s is there twice", name)
		}
		if err := models.CheckPolicyHeader(string(name), string(value)); err != nil {
			return fmt.Errorf("headers: %w", err)
		}
		seen[lower] = true
		headers[string(name)] = string(value)
		return nil
	})
	return headers, err
}
