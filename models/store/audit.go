package store

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"gorm.io/gorm"

	"patrol/models"
)

// audit notes that the transaction's actor does action to subject. The detail is
// what reads well next to it; it holds no secret.
func (t *tx) audit(action, subject string, detail map[string]string) error {
	row, err := newAuditRow(t.now, t.by, action, subject, detail)
	t.events = append(t.events, row)
	return err
}

// Subjects of audit events.
func onUser(id string) string               { return "user:" + id }
func onPAT(id string) string                { return "pat:" + id }
func onDomain(id string) string             { return "domain:" + id }
func onMember(domain, userID string) string { return "membership:" + domain + "/" + userID }

func newAuditRow(at time.Time, by models.Actor, action, subject string, detail map[string]string) (auditRow, error) {
	if detail == nil {
		detail = map[string]string{}
	}
	text, err := json.Marshal(detail)
	if err != nil {
		return auditRow{}, fmt.Errorf("write the detail of an audit event: %w", err)
	}
	return auditRow{
		At: at, ActorKind: by.Kind, ActorUserID: note(by.UserID), ActorTokenID: note(by.TokenID),
		IP: note(by.IP), UserAgent: note(by.UserAgent), RequestID: note(by.RequestID),
		Action: note(action), Subject: note(subject), Detail: string(text),
	}, nil
}

// Audit adds an event that goes with no other write to the audit log, such as a
// sign-in. The subject is what was acted on, as kind:id. The detail must hold no
// secret. Texts that a client chose are cut at 512 bytes.
func (s *Store) Audit(ctx context.Context, by models.Actor, action, subject string, detail map[string]string) error {
	notes := make(map[string]string, len(detail))
	for _, key := range slices.Sorted(maps.Keys(detail)) {
		notes[note(key)] = note(detail[key])
	}
	return s.write(ctx, "audit", by, func(t *tx) error {
		return t.audit(action, subject, notes)
	})
}

// AccountEvents lists what was done to an account since a time, of these actions, the latest
// first and a few at most.
func (s *Store) AccountEvents(ctx context.Context, userID string, since time.Time, actions ...string) ([]AuditEvent, error) {
	if !storable(userID) {
		return nil, nil
	}
	var rows []auditRow
	err := s.list(ctx, "account_events", func(db *gorm.DB) error {
		return db.Where("subject = ? AND at > ? AND action IN ?", onUser(userID), exact(since), actions).Order("id DESC").Limit(maxAccountEvents).Find(&rows).Error
	})
	if err != nil {
		return nil, err
	}
	events := make([]AuditEvent, len(rows))
	for i, r := range rows {
		events[i] = r.event()
	}
	return events, nil
}

// maxAccountEvents bounds what the owner of an account is told at once.
const maxAccountEvents = 5

// clocksDiffer is more than the clocks of servers on one database do.
const clocksDiffer = 24 * time.Hour

// AuditEvents lists the audit log, the latest first.
func (s *Store) AuditEvents(ctx context.Context, f AuditFilter, p Page) ([]AuditEvent, string, error) {
	key, err := p.key("audit", 1)
	if err != nil {
		return nil, "", err
	}
	var before int64
	if key != nil {
		if before, err = strconv.ParseInt(key[0], 10, 64); err != nil {
			return nil, "", badCursor()
		}
	}
	if !storable(f.Action, f.Subject, f.UserID) {
		return []AuditEvent{}, "", nil
	}
	var rows []auditRow
	err = s.list(ctx, "audit_events", func(db *gorm.DB) error {
		q := db.Order("id DESC").Limit(p.limit() + 1)
		if key != nil {
			q = q.Where("id < ?", before)
		}
		if f.Action != "" {
			q = q.Where("action = ?", f.Action)
		}
		if f.Subject != "" {
			q = q.Where("subject = ?", f.Subject)
		}
		if f.UserID != "" {
			q = q.Where("actor_user_id = ?", f.UserID)
		}
		// Numbers go by time but for what clocks differ by: those far outside are left
		// out by their numbers.
		if !f.Since.IsZero() {
			q = q.Where("at >= ?", exact(f.Since)).
				Where("id > COALESCE((SELECT id FROM audit_events WHERE at < ? ORDER BY at DESC LIMIT 1), 0)", exact(f.Since.Add(-clocksDiffer)))
		}
		if !f.Until.IsZero() {
			q = q.Where("at < ?", exact(f.Until)).
				Where("id < COALESCE((SELECT id FROM audit_events WHERE at >= ? ORDER BY at LIMIT 1), ?)", exact(f.Until.Add(clocksDiffer)), int64(math.MaxInt64))
		}
		return q.Find(&rows).Error
	})
	if err != nil {
		return nil, "", err
	}
	events, next := cut(rows, p.limit(), auditRow.event, func(r auditRow) string {
		return newCursor("audit", strconv.FormatInt(r.ID, 10))
	})
	return events, next, nil
}

func (r auditRow) event() AuditEvent {
	e := AuditEvent{
		ID: r.ID, At: r.At.UTC(), Action: r.Action, Subject: r.Subject,
		Actor: models.Actor{
			Kind: r.ActorKind, UserID: r.ActorUserID, TokenID: r.ActorTokenID,
			IP: r.IP, UserAgent: r.UserAgent, RequestID: r.RequestID,
		},
	}
	if err := json.Unmarshal([]byte(r.Detail), &e.Detail); err != nil {
		e.Detail = map[string]string{"unreadable": r.Detail} // written by another program: shown as it is
	}
	return e
}
