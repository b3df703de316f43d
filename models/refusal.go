package models

import (
	"fmt"
	"strconv"
	"time"
)

// CountedRefusals adds up the refusals of one reason that one address got in a
// span of time without showing a token that verifies. Most of them are not kept.
type CountedRefusals struct {
	From time.Time     // UTC, the beginning of a minute
	Span time.Duration // a minute, or the hour that old minutes are added up to
	// Address is an IPv4 address, the /64 of an IPv6 address, or, where there were too
	// many of these, a network that they are in; "" for those without one of their own.
	// A mask of the policy may have replaced it.
	Address   string
	Reason    ReasonCode
	Calls     int64 // a batch is one
	Decisions int64 // answers with an id of their own
	Kept      int64 // of these, in the log as a whole
}

// Add adds what others add up to.
func (r *CountedRefusals) Add(others CountedRefusals) {
	r.Calls += others.Calls
	r.Decisions += others.Decisions
	r.Kept += others.Kept
}

// RefusalsPath is the path in events about counted refusals, where those about
// decisions have [DecisionPath].
const RefusalsPath = "patrol/log/refused"

// AppendEvent appends the counts as an event that readers of OPA's decision log take
// for one of another document.
func (r *CountedRefusals) AppendEvent(b []byte, labels []byte) []byte {
	b = append(b, `{"labels":`...)
	b = append(b, labels...)
	b = appendMember(b, `,"decision_id":`, NewDecisionID(r.From))
	b = append(b, `,"path":"`+RefusalsPath+`","result":{`...)
	b = appendMember(b, `"reason":`, string(r.Reason))
	for _, n := range [...]struct {
		name  string
		value int64
	}{{`,"seconds":`, int64(r.Span / time.Second)}, {`,"calls":`, r.Calls}, {`,"decisions":`, r.Decisions}, {`,"kept":`, r.Kept}} {
		b = strconv.AppendInt(append(b, n.name...), n.value, 10)
	}
	b = append(b, '}')
	if r.Address != "" {
		b = appendMember(b, `,"requested_by":`, r.Address)
	}
	b = append(b, `,"timestamp":"`...)
	b = r.From.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, `"}`...)
}

// LogBounds says what a decision log in a database keeps.
type LogBounds struct {
	Before       time.Time // older decisions go
	MaxRows      int64     // most decisions; 0: any number
	RefusedRows  int64     // of these, most about no token that verified; never more than an eighth
	RefusedSums  int64     // most counts of refusals by address and minute; 0: any number
	CountsBefore time.Time // counts of older days go
}

// LogReach says how far back a decision log is complete.
type LogReach struct {
	Verified LogClass // decisions about tokens that verified
	Refused  LogClass // what is kept of refusals without such a token
	// Busiest is the token with most of the rows, and BusiestRows how many.
	Busiest     string
	BusiestRows int64
	At          time.Time // when rows were last counted; zero: never
}

// LogClass is the reach of one kind of decisions.
type LogClass struct {
	Rows int64
	// First is the time of the oldest decision in it; nil: there is none.
	First *time.Time
	// CutTo is the time before which decisions were deleted, for some tokens at least,
	// because there were too many, rather than too old; nil: that never happened.
	CutTo *time.Time
}

// Since returns from when on the class is complete, as long as decisions that are
// kept for retention reach back: what was made later and is not there was not
// taken down. It is nil if there is none.
func (c LogClass) Since() *time.Time {
	if c.CutTo != nil && (c.First == nil || c.CutTo.After(*c.First)) {
		return c.CutTo
	}
	return c.First
}

// CutShort reports whether, at now, fewer decisions are there than retention
// promises at most, because there were too many.
func (c LogClass) CutShort(now time.Time, retention time.Duration) bool {
	return c.CutTo != nil && c.CutTo.After(now.Add(-retention))
}

// MissingKind says why a decision is not in the log.
type MissingKind string

// The kinds of missing decisions.
const (
	MissingNoID    MissingKind = "no_decision_id"   // no decision ever has such an id
	MissingCounted MissingKind = "counted_not_kept" // a refusal without a token that verifies, which was counted only
	MissingFuture  MissingKind = "not_yet"          // the id's time is still to come, or too close to be written
	MissingBefore  MissingKind = "before_the_log"   // older than anything that this log ever took down
	MissingPruned  MissingKind = "older_than_kept"  // if it ever was in the log, it was deleted since
	MissingUnknown MissingKind = "not_in_the_log"   // the log is complete for that time, but for what it lost
)

// MissingDecision explains why a decision is not in the log.
type MissingDecision struct {
	ID   string
	Kind MissingKind
	At   time.Time // when it was made, by its id; zero: not known
	// Since is from when on the log is complete, nil if it never took anything down.
	Since *time.Time
	// Lost counts the decisions of that day that the log could not keep.
	Lost int64
	// Refusals are those that were counted in the minute of a counted one.
	Refusals []CountedRefusals
}

// Message says it to people.
func (m MissingDecision) Message() string {
	const layout = "2006-01-02 15:04:05 UTC"
	at, since := m.At.UTC().Format(layout), "never"
	if m.Since != nil {
		since = m.Since.UTC().Format(layout)
	}
	switch m.Kind {
	case MissingNoID:
		return "No decision has such an id: ids have 16 letters and digits, and begin with a time."
	case MissingCounted:
		var decisions, calls int64
		for _, r := range m.Refusals {
			decisions, calls = decisions+r.Decisions-r.Kept, calls+r.Calls
		}
		text := "This decision was counted, not kept: it refused, at " + at + ", a request without a token that verifies."
		if calls > 0 {
			text += fmt.Sprintf(" In that time such requests came %d times, and %d of the answers were not kept.", calls, decisions)
		}
		return text
	case MissingFuture:
		return "By its id this decision was made at " + at + ", which is now or still to come. What was just decided is in the log within seconds."
	case MissingBefore:
		if m.Since == nil {
			return "This log has no decisions yet."
		}
		return "By its id this decision was made at " + at + ", before the first that this log ever took down."
	case MissingPruned:
		return "By its id this decision was made at " + at + ". The log is complete since " + since + " only; if the decision was in it, it was deleted."
	default:
		text := "By its id this decision was made at " + at + ". The log is complete since " + since + " and does not have it"
		if m.Lost > 0 {
			return text + fmt.Sprintf(", but %d decisions of that day could not be kept. It may be one of them, or be of another Patrol.", m.Lost)
		}
		return text + ": it was never made here, is of another Patrol, or was lost when a server ended without writing what it had."
	}
}
