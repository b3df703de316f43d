package models

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"
)

// DecisionPath is the document that decisions are asked of, as events name it.
const DecisionPath = "patrol/authz/decision"

// AppendEvent appends the decision as an event of OPA's decision log, one JSON
// object on one line, without a line break. labels is a JSON object that says who
// logs. What OPA's format has no field for stands under custom.
func (l *LoggedDecision) AppendEvent(b []byte, labels []byte) []byte {
	b = append(b, `{"labels":`...)
	b = append(b, labels...)
	b = appendMember(b, `,"decision_id":`, l.ID)
	b = appendMember(b, `,"bundles":{"patrol":{"revision":`, l.Revision)
	b = append(b, `}},"path":"`+DecisionPath+`"`...)
	if l.Input != nil {
		b = append(b, `,"input":`...)
		b = l.AppendInput(b)
	}
	b = append(b, `,"result":`...)
	b = l.appendResult(b)
	b = appendStrings(b, `,"erased":`, l.Erased)
	b = appendStrings(b, `,"masked":`, l.Masked)
	if l.RequestedBy != "" {
		b = appendMember(b, `,"requested_by":`, l.RequestedBy)
	}
	b = append(b, `,"timestamp":"`...)
	b = l.At.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","metrics":{"timer_server_handler_ns":`...)
	b = strconv.AppendInt(b, int64(l.Took), 10)
	b = append(b, '}')
	b = l.appendCustom(b)
	return append(b, '}')
}

// AppendInput appends the input that the policy judged, as an event has it; nothing if there is
// none.
func (l *LoggedDecision) AppendInput(b []byte) []byte {
	if l.Input == nil {
		return b
	}
	b = append(b, '{')
	b = l.appendRequest(b)
	context := l.Input.Context
	if context == "" {
		context = "{}"
	}
	b = append(b, `,"context":`...)
	b = append(b, context...)
	b = append(b, '}')
	for _, f := range [...]struct {
		name string
		fact *Fact
	}{
		{`,"token":`, l.Input.Token}, {`,"user":`, l.Input.User}, {`,"domain":`, l.Input.Domain}, {`,"membership":`, l.Input.Membership},
	} {
		if f.fact != nil {
			b = append(b, f.name...)
			b = append(b, f.fact.JSON...)
		}
	}
	for _, part := range [...]struct{ name, text string }{{`,"client":`, l.Input.Client}, {`,"http":`, l.Input.HTTP}} {
		if part.text != "" {
			b = append(b, part.name...)
			b = append(b, part.text...)
		}
	}
	b = append(b, `,"now":`...)
	b = strconv.AppendInt(b, l.Input.Now, 10)
	return append(b, '}')
}

// appendRequest appends a member request, without its last brace.
func (l *LoggedDecision) appendRequest(b []byte) []byte {
	b = appendMember(b, `"request":{"domain":`, l.Request.Domain)
	b = appendMember(b, `,"entity_type":`, l.Request.EntityType)
	b = appendMember(b, `,"entity":`, l.Request.Entity)
	return appendMember(b, `,"operation":`, l.Request.Operation)
}

func (l *LoggedDecision) appendResult(b []byte) []byte {
	b = append(b, `{"allow":`...)
	b = strconv.AppendBool(b, l.Allowed)
	b = append(b, `,"reasons":[`...)
	for i, r := range l.Reasons {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendMember(b, `{"code":`, string(r.Code))
		b = appendMember(b, `,"message":`, r.Message)
		b = append(b, '}')
	}
	b = append(b, ']')
	if l.ScopeID != "" {
		b = appendMember(b, `,"scope":`, l.ScopeID)
	}
	if l.Headers != nil {
		b = append(b, `,"headers":`...)
		b = appendTexts(b, l.Headers)
	}
	if l.Labels != nil {
		b = append(b, `,"labels":`...)
		b = appendTexts(b, l.Labels)
	}
	return append(b, '}')
}

// appendTexts appends an object of texts, sorted by name.
func appendTexts(b []byte, texts map[string]string) []byte {
	for i, name := range slices.Sorted(maps.Keys(texts)) {
		b = append(b, "{,"[min(i, 1)])
		b = appendString(b, name)
		b = appendMember(b, ":", texts[name])
	}
	if len(texts) == 0 {
		b = append(b, '{')
	}
	return append(b, '}')
}

func (l *LoggedDecision) appendCustom(b []byte) []byte {
	b = appendMember(b, `,"custom":{"surface":`, l.Surface)
	b = appendMember(b, `,"outcome":`, string(l.Outcome()))
	if l.RequestID != "" {
		b = appendMember(b, `,"request_id":`, l.RequestID)
	}
	if l.TokenID != "" {
		b = appendMember(b, `,"token_id":`, l.TokenID)
		b = appendMember(b, `,"user_id":`, l.UserID)
	}
	for i, w := range l.Waived {
		b = append(b, [...]string{`,"waived":[`, ","}[min(i, 1)]...)
		b = appendMember(b, `{"code":`, string(w.Code))
		if w.Until != 0 {
			b = appendMember(b, `,"because":`, w.Because)
			b = append(b, `,"until":`...)
			b = strconv.AppendInt(b, w.Until, 10)
		}
		b = append(b, '}')
	}
	if len(l.Waived) > 0 {
		b = append(b, ']')
	}
	if l.Method != "" {
		b = appendMember(b, `,"http":{"method":`, l.Method)
		b = appendMember(b, `,"path":`, l.Path)
		b = append(b, '}')
	}
	if l.Input == nil && l.Request.Domain+l.Request.EntityType+l.Request.Entity+l.Request.Operation != "" {
		b = append(b, ',')
		b = l.appendRequest(b)
		b = append(b, '}')
	}
	return append(b, '}')
}

func appendStrings(b []byte, name string, list []string) []byte {
	if len(list) == 0 {
		return b
	}
	b = append(b, name...)
	for i, s := range list {
		b = append(b, "[,"[min(i, 1)])
		b = appendString(b, s)
	}
	return append(b, ']')
}

func appendMember(b []byte, name, value string) []byte {
	b = append(b, name...)
	return appendString(b, value)
}

// appendString appends s as JSON. Most strings are ids and need no escape.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, err := json.Marshal(s)
			if err != nil {
				panic(err) // a string can always be marshaled
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// event is an event as it is read.
type event struct {
	DecisionID string `json:"decision_id"`
	Revision   string `json:"revision"`
	Bundles    map[string]struct {
		Revision string `json:"revision"`
	} `json:"bundles"`
	Path  string `json:"path"`
	Input *struct {
		Request    eventRequest    `json:"request"`
		Token      json.RawMessage `json:"token"`
		User       json.RawMessage `json:"user"`
		Domain     json.RawMessage `json:"domain"`
		Membership json.RawMessage `json:"membership"`
		Client     json.RawMessage `json:"client"`
		HTTP       json.RawMessage `json:"http"`
		Now        json.Number     `json:"now"`
	} `json:"input"`
	Result *struct {
		Allow   bool              `json:"allow"`
		Reasons []Reason          `json:"reasons"`
		Scope   string            `json:"scope"`
		Headers map[string]string `json:"headers"`
		Labels  map[string]string `json:"labels"`
	} `json:"result"`
	Erased      []string         `json:"erased"`
	Masked      []string         `json:"masked"`
	RequestedBy string           `json:"requested_by"`
	Timestamp   time.Time        `json:"timestamp"`
	Metrics     map[string]int64 `json:"metrics"`
	Custom      struct {
		Surface   string        `json:"surface"`
		RequestID string        `json:"request_id"`
		TokenID   string        `json:"token_id"`
		UserID    string        `json:"user_id"`
		Waived    []Waiver      `json:"waived"`
		Request   *eventRequest `json:"request"`
		HTTP      struct {
			Method string `json:"method"`
			Path   string `json:"path"`
		} `json:"http"`
	} `json:"custom"`
}

type eventRequest struct {
	Domain     string          `json:"domain"`
	EntityType string          `json:"entity_type"`
	Entity     string          `json:"entity"`
	Operation  string          `json:"operation"`
	Context    json.RawMessage `json:"context"`
}

func (r eventRequest) request() Request {
	return Request{Domain: r.Domain, EntityType: r.EntityType, Entity: r.Entity, Operation: r.Operation}
}

// ParseEvent reads an event that [LoggedDecision.AppendEvent] wrote, or that an OPA
// wrote which was asked for the same document.
func ParseEvent(text []byte) (LoggedDecision, error) {
	var e event
	if err := json.Unmarshal(text, &e); err != nil {
		return LoggedDecision{}, fmt.Errorf("read an event of the decision log: %w", err)
	}
	switch {
	case e.DecisionID == "":
		return LoggedDecision{}, errors.New("read an event of the decision log: it has no decision_id")
	case e.Path == RefusalsPath:
		return LoggedDecision{}, fmt.Errorf("read an event of the decision log: %w", errCounts)
	case e.Path != DecisionPath:
		return LoggedDecision{}, fmt.Errorf("read an event of the decision log: its path is %.80q, not %s", e.Path, DecisionPath)
	case e.Result == nil:
		return LoggedDecision{}, errors.New("read an event of the decision log: it has no result")
	}
	l := LoggedDecision{
		Decision: Decision{
			ID: e.DecisionID, Allowed: e.Result.Allow, TokenID: e.Custom.TokenID, UserID: e.Custom.UserID,
			ScopeID: e.Result.Scope, Revision: e.Revision, Headers: e.Result.Headers,
			Labels: e.Result.Labels, Waived: e.Custom.Waived,
		},
		At: e.Timestamp.UTC(), Took: time.Duration(e.Metrics["timer_server_handler_ns"]), Surface: e.Custom.Surface, RequestID: e.Custom.RequestID,
		RequestedBy: e.RequestedBy, Method: e.Custom.HTTP.Method, Path: e.Custom.HTTP.Path, Erased: e.Erased, Masked: e.Masked,
	}
	if len(e.Result.Reasons) > 0 {
		l.Reasons = e.Result.Reasons
	}
	if b, ok := e.Bundles["patrol"]; ok {
		l.Revision = b.Revision
	}
	if e.Input == nil {
		if e.Custom.Request != nil {
			l.Request = e.Custom.Request.request()
		}
		return l, nil
	}
	now, err := e.Input.Now.Int64()
	if err != nil {
		return l, fmt.Errorf("read event %.40q of the decision log: input.now is not a whole number", l.ID)
	}
	l.Request = e.Input.Request.request()
	l.Input = &DecisionInput{
		Token: rawFact(e.Input.Token), User: rawFact(e.Input.User), Domain: rawFact(e.Input.Domain), Membership: rawFact(e.Input.Membership),
		Client: string(e.Input.Client), HTTP: string(e.Input.HTTP), Now: now,
	}
	if c := bytes.TrimSpace(e.Input.Request.Context); len(c) > 0 && !bytes.Equal(c, []byte("{}")) {
		l.Input.Context = string(c)
	}
	return l, nil
}

// maxEventLine bounds a line of events, in bytes: an event has at most a context of 64 KiB
// and a token of 64 scopes.
const maxEventLine = 4 << 20

// errCounts says that an event is about refusals that were counted.
var errCounts = errors.New("an event about refusals that were counted, not a decision")

// EachEvent calls fn with the decisions that r has, one event to a line, until there is
// none left or fn returns an error, which is returned. Other errors name the line of
// what name calls r.
func EachEvent(name string, r io.Reader, fn func(LoggedDecision) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxEventLine)
	n := 0
	for lines.Scan() {
		n++
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		l, err := ParseEvent(lines.Bytes())
		if errors.Is(err, errCounts) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s:%d: %w", name, n, err)
		}
		if err := fn(l); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s:%d: %w", name, n+1, err)
	}
	return nil
}

func rawFact(text json.RawMessage) *Fact {
	if text == nil {
		return nil
	}
	return NewFact(string(text))
}

// NewFact returns a text of JSON as a fact.
func NewFact(text string) *Fact {
	digest := sha256.Sum256([]byte(text))
	return &Fact{Key: [16]byte(digest[:16]), JSON: text}
}
