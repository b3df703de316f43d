package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"gorm.io/gorm"

	"patrol/models"
)

// DecisionFilter narrows a list of decisions. Empty fields do not narrow.
type DecisionFilter struct {
	TokenID  string
	UserID   string // of the token's owner
	Domain   string // of the request
	Outcome  models.Outcome
	Reason   models.ReasonCode // among all its reasons
	Surface  string
	Request  string // the id of the request that it was made for
	Revision string
	Since    time.Time // made at this time or later, to the millisecond
	Until    time.Time // made before this time
}

// decisionRecord is a row of decisions.
type decisionRecord struct {
	ID         string
	At         time.Time
	Took       int64
	Surface    string
	Outcome    models.Outcome
	Reason     models.ReasonCode
	Revision   string
	TokenID    string
	UserID     string
	Domain     string
	EntityType string
	Entity     string
	Operation  string
	ScopeID    string

	RequestID, RequestedBy                          string
	InputNow                                        *int64
	TokenFact, UserFact, DomainFact, MembershipFact []byte
	Detail                                          string
}

// logged is the decision of a row. facts has the texts that it refers to; nil
// leaves the input out.
func (r decisionRecord) logged(facts map[[16]byte]*models.Fact) (models.LoggedDecision, error) {
	var detail decisionDetail
	if r.Detail != "" {
		if err := json.Unmarshal([]byte(r.Detail), &detail); err != nil {
			return models.LoggedDecision{}, fmt.Errorf("read the detail of decision %s: %w", r.ID, err)
		}
	}
	l := models.LoggedDecision{
		Decision: models.Decision{
			ID: r.ID, Allowed: r.Outcome == models.OutcomeAllow, Reasons: detail.Reasons, TokenID: r.TokenID, UserID: r.UserID,
			ScopeID: r.ScopeID, Revision: r.Revision, Headers: detail.Headers, Labels: detail.Labels, Waived: detail.Waived,
		},
		At: r.At.UTC(), Took: time.Duration(r.Took), Surface: r.Surface, RequestID: r.RequestID, RequestedBy: r.RequestedBy,
		Method: detail.Method, Path: detail.Path,
		Request: models.Request{Domain: r.Domain, EntityType: r.EntityType, Entity: r.Entity, Operation: r.Operation},
		Erased:  detail.Erased, Masked: detail.Masked,
	}
	if r.InputNow == nil || facts == nil {
		return l, nil
	}
	in := models.DecisionInput{Now: *r.InputNow, Context: string(detail.Context), Client: string(detail.Client), HTTP: string(detail.HTTP)}
	for _, f := range [...]struct {
		key []byte
		to  **models.Fact
	}{{r.TokenFact, &in.Token}, {r.UserFact, &in.User}, {r.DomainFact, &in.Domain}, {r.MembershipFact, &in.Membership}} {
		if len(f.key) != 16 {
			continue
		}
		if *f.to = facts[[16]byte(f.key)]; *f.to == nil {
			return l, fmt.Errorf("read decision %s: a part of its input is gone", r.ID)
		}
	}
	l.Input = &in
	return l, nil
}

// Decisions lists decisions without their input, the latest first.
func (d *Decisions) Decisions(ctx context.Context, f DecisionFilter, p Page) ([]models.LoggedDecision, string, error) {
	key, err := p.key("decisions", 1)
	if err != nil {
		return nil, "", err
	}
	if !f.storable() {
		return []models.LoggedDecision{}, "", nil
	}
	var rows []decisionRecord
	err = d.store.read(ctx, "decisions", func(db *gorm.DB) error {
		q := f.where(db.Table("decisions")).Order("id DESC").Limit(p.limit() + 1)
		if key != nil {
			q = q.Where("id < ?", key[0])
		}
		return q.Find(&rows).Error
	})
	if err != nil {
		return nil, "", err
	}
	rows, next := cut(rows, p.limit(), func(r decisionRecord) decisionRecord { return r }, func(r decisionRecord) string {
		return newCursor("decisions", r.ID)
	})
	list := make([]models.LoggedDecision, len(rows))
	for i, r := range rows {
		if list[i], err = r.logged(nil); err != nil {
			return nil, "", failure(ctx, "decisions", err)
		}
	}
	return list, next, nil
}

func (f DecisionFilter) storable() bool {
	return storable(f.TokenID, f.UserID, f.Domain, string(f.Outcome), string(f.Reason), f.Surface, f.Request, f.Revision)
}

func (f DecisionFilter) where(q *gorm.DB) *gorm.DB {
	for _, equal := range [...]struct{ column, value string }{
		{"token_id", f.TokenID},
		{"user_id", f.UserID},
		{"domain", f.Domain},
		{"outcome", string(f.Outcome)},
		{"surface", f.Surface},
		{"request_id", f.Request},
		{"revision", f.Revision},
	} {
		if equal.value != "" {
			q = q.Where(equal.column+" = ?", equal.value)
		}
	}
	if f.Request != "" {
		q = q.Where("request_id <> ''") // to the letter the condition of the index
	}
	if f.Reason != "" || f.Outcome != "" && f.Outcome != models.OutcomeAllow {
		q = q.Where("outcome <> 'allow'") // likewise
	}
	if f.Reason != "" {
		// The first reason is a column, the others are in the detail.
		q = q.Where(`(reason = ? OR detail LIKE ? ESCAPE '\')`, string(f.Reason), contains(`{"code":"`+string(f.Reason)+`",`))
	}
	if !f.Since.IsZero() {
		q = q.Where("id >= ?", models.DecisionIDsFrom(f.Since))
	}
	if !f.Until.IsZero() {
		q = q.Where("id < ?", models.DecisionIDsFrom(f.Until))
	}
	return q
}

// Decision returns a decision with its input, or nil if it is not in the log.
func (d *Decisions) Decision(ctx context.Context, id string) (*models.LoggedDecision, error) {
	if !storable(id) {
		return nil, nil
	}
	var rows []decisionRecord
	err := d.store.read(ctx, "decision", func(db *gorm.DB) error {
		return db.Table("decisions").Where("id = ?", id).Limit(1).Find(&rows).Error
	})
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	list, err := d.withInput(ctx, rows, map[[16]byte]*models.Fact{})
	if err != nil {
		return nil, err
	}
	return &list[0], nil
}

// decisionsPerRead is the number of decisions that Each reads at a time.
const decisionsPerRead = 1000

// Each calls fn with the decisions that the filter leaves, with their input, the
// oldest first, until there is none left or fn returns an error, which is
// returned. It sees the log as it goes: what is added meanwhile may be seen.
func (d *Decisions) Each(ctx context.Context, f DecisionFilter, fn func(models.LoggedDecision) error) error {
	if !f.storable() {
		return nil
	}
	return d.each(ctx, f.where, fn)
}

// Latest calls fn as [Decisions.Each] does, with the latest of those decisions that
// can be made again, at most limit.
func (d *Decisions) Latest(ctx context.Context, f DecisionFilter, limit int, fn func(models.LoggedDecision) error) error {
	if !f.storable() || limit <= 0 {
		return nil
	}
	narrow := func(q *gorm.DB) *gorm.DB { return f.where(q).Where("input_now IS NOT NULL") }
	var first []string
	err := d.store.read(ctx, "latest_decisions", func(db *gorm.DB) error {
		return narrow(db.Table("decisions")).Order("id DESC").Offset(limit-1).Limit(1).Pluck("id", &first).Error
	})
	if err != nil {
		return err
	}
	errEnough := errors.New("enough") // what is added meanwhile is not among them
	left := limit
	err = d.each(ctx, func(q *gorm.DB) *gorm.DB {
		if len(first) > 0 {
			q = q.Where("id >= ?", first[0])
		}
		return narrow(q)
	}, func(l models.LoggedDecision) error {
		if left--; left < 0 {
			return errEnough
		}
		return fn(l)
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// each reads what narrow leaves, some at a time.
func (d *Decisions) each(ctx context.Context, narrow func(*gorm.DB) *gorm.DB, fn func(models.LoggedDecision) error) error {
	facts := map[[16]byte]*models.Fact{}
	after := ""
	for {
		var rows []decisionRecord
		err := d.store.read(ctx, "each_decision", func(db *gorm.DB) error {
			return narrow(db.Table("decisions")).Where("id > ?", after).Order("id").Limit(decisionsPerRead).Find(&rows).Error
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		after = rows[len(rows)-1].ID
		if len(facts) > maxFactsKnown {
			clear(facts)
		}
		list, err := d.withInput(ctx, rows, facts)
		if err != nil {
			return err
		}
		for i := range list {
			if err := fn(list[i]); err != nil {
				return err
			}
		}
	}
}

// withInput completes rows with the facts that they refer to, reading those that
// are not in facts into it.
func (d *Decisions) withInput(ctx context.Context, rows []decisionRecord, facts map[[16]byte]*models.Fact) ([]models.LoggedDecision, error) {
	var missing []any
	seen := map[[16]byte]bool{}
	for _, r := range rows {
		for _, key := range [...][]byte{r.TokenFact, r.UserFact, r.DomainFact, r.MembershipFact} {
			if len(key) == 16 && facts[[16]byte(key)] == nil && !seen[[16]byte(key)] {
				seen[[16]byte(key)] = true
				missing = append(missing, blob(key))
			}
		}
	}
	for len(missing) > 0 {
		part := missing[:min(len(missing), useBatch)]
		missing = missing[len(part):]
		var found []struct {
			Key  []byte
			Body string
		}
		err := d.store.read(ctx, "decision_facts", func(db *gorm.DB) error {
			return db.Raw("SELECT key, body FROM decision_facts WHERE key IN ("+strings.TrimSuffix(strings.Repeat("?, ", len(part)), ", ")+")", part...).Scan(&found).Error
		})
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			key := [16]byte(f.Key)
			facts[key] = &models.Fact{Key: key, JSON: f.Body}
		}
	}
	list := make([]models.LoggedDecision, len(rows))
	for i, r := range rows {
		var err error
		if list[i], err = r.logged(facts); err != nil {
			return nil, failure(ctx, "decisions", err)
		}
	}
	return list, nil
}
