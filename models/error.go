package models

import (
	"errors"
	"fmt"
	"strings"
)

// Code classifies an [Error]. Its text is the `code` member of a problem
// document and is stable; the table that maps it to HTTP lives in the server.
type Code string

// The codes of errors. The codes of decisions are in [Reason].
const (
	CodeMalformed        Code = "malformed_request"         // the request cannot be read at all
	CodeInvalid          Code = "validation_failed"         // it was read, but fields are wrong; see Error.Fields
	CodeUnauthenticated  Code = "unauthenticated"           // nobody, or nobody any more, is signed in
	CodeBadCredentials   Code = "bad_credentials"           // email and password do not match an account that may sign in
	CodeForbidden        Code = "forbidden"                 // signed in, but not allowed to do this
	CodeIPForbidden      Code = "ip_forbidden"              // the PAT may not be used from the caller's address
	CodeSessionRequired  Code = "session_required"          // the caller holds a PAT where only a signed-in person may act
	CodeReauthentication Code = "reauthentication_required" // the sign-in is too old for this action
	CodeNotFound         Code = "not_found"                 // no such thing, or not one the caller may know of
	CodeCountedOnly      Code = "counted_not_kept"          // a decision that the log has counted and not kept
	CodeMethodNotAllowed Code = "method_not_allowed"        // the path exists, the method on it does not
	CodeConflict         Code = "conflict"                  // the state of the thing does not permit this now
	CodeTaken            Code = "already_taken"             // the name or id is in use
	CodeAlreadyRotated   Code = "already_rotated"           // the token has a successor; see Error.RotatedTo
	CodeLastScope        Code = "last_scope"                // a token keeps at least one scope
	CodeTokenAlive       Code = "token_alive"               // only dead tokens can be deleted
	CodeLimitReached     Code = "limit_reached"             // a configured maximum would be exceeded
	CodeTooLarge         Code = "body_too_large"            // the request body is over the limit
	CodeMediaType        Code = "unsupported_media_type"    // the body is of a type or encoding that is not read
	CodeRateLimited      Code = "rate_limited"              // too many attempts; see Error.RetryAfter
	CodeUnavailable      Code = "unavailable"               // a part that is needed does not answer
	CodeInternal         Code = "internal"                  // a defect; the cause is in the log under the request id
)

// FieldError says what is wrong with one field of the input. Field is the path
// of the field as the sender wrote it, such as `scopes[1].operation`.
type FieldError struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

// Error is the one error type that crosses package borders in Patrol. Message is
// written for whoever made the request and holds no internal detail; the cause,
// reachable through errors.Unwrap, is for the log.
type Error struct {
	Code       Code
	Message    string
	Fields     []FieldError // with CodeInvalid, never empty
	RotatedTo  string       // with CodeAlreadyRotated: id of the successor
	RetryAfter int          // with CodeRateLimited: whole seconds to wait
	cause      error
}

// NewError returns an error with a message for the caller.
func NewError(code Code, message string) *Error {
	return &Error{Code: code, Message: message}
}

// WrapError returns an error with a message for the caller and a cause for the
// log.
func WrapError(code Code, message string, cause error) *Error {
	return &Error{Code: code, Message: message, cause: cause}
}

// Error returns code, message and fields, and the cause if there is one: text
// for a log, not for a caller.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", e.Code, e.Message)
	for i, f := range e.Fields {
		sep := "; "
		if i == 0 {
			sep = " ("
		}
		fmt.Fprintf(&b, "%s%s: %s", sep, f.Field, f.Message)
	}
	if len(e.Fields) > 0 {
		b.WriteString(")")
	}
	if e.cause != nil {
		fmt.Fprintf(&b, ": %v", e.cause)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// CodeOf returns the code of the first *Error in err's chain, CodeInternal for
// any other error, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}

// Invalid collects field errors while a value is validated.
// The zero value is ready to use.
type Invalid struct{ fields []FieldError }

// Add records that field is wrong for the reason that format and args give.
func (v *Invalid) Add(field, format string, args ...any) {
	v.fields = append(v.fields, FieldError{Field: field, Message: fmt.Sprintf(format, args...)})
}

// Err returns nil if nothing was added, else one CodeInvalid error with all the
// fields.
func (v *Invalid) Err() error {
	if len(v.fields) == 0 {
		return nil
	}
	return &Error{Code: CodeInvalid, Message: "some fields are not valid", Fields: v.fields}
}
