package store

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"patrol/models"
)

const (
	// KeptPolicies is the number of policy revisions that can be rolled back to, the one
	// in force included.
	KeptPolicies = 10
	// keptPolicyEvents is the number of events that [Store.PolicyEvents] returns. The audit
	// log keeps all.
	keptPolicyEvents = 200
)

// PolicyRevision is a policy bundle and what was found out about it.
type PolicyRevision struct {
	Digest        string // of what takes part in evaluation; "" if it could not be read
	ArchiveDigest string
	Revision      string
	Source        string
	SignedBy      string            // id of a key; "" without
	Result        json.RawMessage   // of the gate
	Summary       map[string]string // of the result, for the audit log
	ActivatedAt   time.Time         // the last time; zero of a candidate
}

// PolicyState is which policy is in force; its Digest is "" if none ever was.
type PolicyState struct {
	Digest        string
	ArchiveDigest string
	Revision      string
	Source        string
	Since         time.Time
	Pinned        bool  // nothing but a roll back or a promotion puts another in force
	Promoted      bool  // it is pinned by a promotion, until the source has the same
	Resumed       int64 // how often servers were told to follow their source again
}

// PolicyEvent is something that happened to the policy.
type PolicyEvent struct {
	ID      int64
	At      time.Time
	Kind    PolicyEventKind
	ByKind  models.ActorKind
	ByUser  string // id; "" if it was no user
	Subject PolicyRevision
}

// PolicyEventKind is the kind of an event.
type PolicyEventKind string

// The kinds of events of a policy.
const (
	PolicyActivated  PolicyEventKind = "activate"
	PolicyRefused    PolicyEventKind = "refuse"
	PolicyRolledBack PolicyEventKind = "rollback"
	PolicyResumed    PolicyEventKind = "resume"
	PolicyPromoted   PolicyEventKind = "promote"
	// PolicyShadowed is that a candidate is judged beside the policy in force.
	PolicyShadowed PolicyEventKind = "shadow"
	// PolicyShadowRefused is that one is not, because the gate refused it.
	PolicyShadowRefused PolicyEventKind = "shadow_refuse"
)

type policyBundleRow struct {
	Digest        string `gorm:"primaryKey"`
	ArchiveDigest string
	Revision      string
	Source        string
	SignedBy      string
	Result        string
	Summary       string
	ActivatedAt   time.Time
	Archive       []byte
}

func (policyBundleRow) TableName() string { return "policy_bundles" }

func (r policyBundleRow) model() PolicyRevision {
	p := PolicyRevision{
		Digest: r.Digest, ArchiveDigest: r.ArchiveDigest, Revision: r.Revision, Source: r.Source, SignedBy: r.SignedBy,
		Result: json.RawMessage(r.Result), ActivatedAt: r.ActivatedAt.UTC(),
	}
	if err := json.Unmarshal([]byte(r.Summary), &p.Summary); err != nil {
		p.Summary = nil // written by another program: the result is there all the same
	}
	return p
}

type policyEventRow struct {
	ID            int64 `gorm:"primaryKey;autoIncrement"`
	At            time.Time
	Kind          PolicyEventKind
	Digest        string
	ArchiveDigest string
	Revision      string
	Source        string
	SignedBy      string
	Result        string
	ActorKind     models.ActorKind
	ActorUserID   string
}

func (policyEventRow) TableName() string { return "policy_events" }

func (r policyEventRow) model() PolicyEvent {
	return PolicyEvent{
		ID: r.ID, At: r.At.UTC(), Kind: r.Kind, ByKind: r.ActorKind, ByUser: r.ActorUserID,
		Subject: PolicyRevision{
			Digest: r.Digest, ArchiveDigest: r.ArchiveDigest, Revision: r.Revision, Source: r.Source, SignedBy: r.SignedBy,
			Result: json.RawMessage(r.Result),
		},
	}
}

type policyStateRow struct {
	One           int `gorm:"primaryKey"`
	Digest        string
	ArchiveDigest string
	Revision      string
	Source        string
	Since         time.Time
	Pinned        bool
	Promoted      bool
	Resumed       int64
}

func (policyStateRow) TableName() string { return "policy_state" }

func (r policyStateRow) model() PolicyState {
	return PolicyState{
		Digest: r.Digest, ArchiveDigest: r.ArchiveDigest, Revision: r.Revision, Source: r.Source, Since: r.Since.UTC(),
		Pinned: r.Pinned, Promoted: r.Promoted, Resumed: r.Resumed,
	}
}

func onPolicy(digest string) string { return "policy:" + digest }

// PolicyState returns which policy is in force.
func (s *Store) PolicyState(ctx context.Context) (PolicyState, error) {
	var row policyStateRow
	err := s.read(ctx, "policy_state", func(db *gorm.DB) error {
		return db.Raw("SELECT * FROM policy_state").Find(&row).Error
	})
	return row.model(), err
}

// PolicyArchive returns the archive of a revision that is kept, by its digest;
// CodeNotFound if it is not.
func (s *Store) PolicyArchive(ctx context.Context, digest string) ([]byte, error) {
	if !storable(digest) {
		return nil, notFound("revision of the policy")
	}
	var archive []byte
	found := false
	err := s.read(ctx, "policy_archive", func(db *gorm.DB) error {
		var row policyBundleRow
		result := db.Select("archive").Where("digest = ?", digest).Limit(1).Find(&row)
		archive, found = row.Archive, result.RowsAffected > 0
		return result.Error
	})
	if err == nil && !found {
		err = notFound("revision of the policy")
	}
	return archive, err
}

// PolicyRevisions lists the revisions that can be rolled back to, the last in
// force first. There are at most [KeptPolicies].
func (s *Store) PolicyRevisions(ctx context.Context) ([]PolicyRevision, error) {
	var rows []policyBundleRow
	err := s.list(ctx, "policy_revisions", func(db *gorm.DB) error {
		return db.Omit("archive").Order("activated_at DESC, digest").Find(&rows).Error
	})
	out := make([]PolicyRevision, len(rows))
	for i, r := range rows {
		out[i] = r.model()
	}
	return out, err
}

// KeptPolicy returns the kept revision that is named by its revision or its digest.
// It is CodeNotFound if none of the name is kept, and CodeConflict if several are.
func (s *Store) KeptPolicy(ctx context.Context, name string) (PolicyRevision, error) {
	var row policyBundleRow
	err := s.read(ctx, "kept_policy", func(db *gorm.DB) error {
		var err error
		row, err = findPolicy(db, name)
		return err
	})
	if err != nil {
		return PolicyRevision{}, err
	}
	return row.model(), nil
}

// PolicyEvents lists what happened to the policy, the latest first; only events of
// the kind unless that is "".
func (s *Store) PolicyEvents(ctx context.Context, kind PolicyEventKind, limit int) ([]PolicyEvent, error) {
	var rows []policyEventRow
	err := s.list(ctx, "policy_events", func(db *gorm.DB) error {
		q := db.Order("id DESC").Limit(limit)
		if kind != "" {
			q = q.Where("kind = ?", kind)
		}
		return q.Find(&rows).Error
	})
	out := make([]PolicyEvent, len(rows))
	for i, r := range rows {
		out[i] = r.model()
	}
	return out, err
}

// ActivatePolicy puts a candidate in force that passed the gate, and keeps it. It
// is CodeConflict while another is pinned, and does nothing if it is in force,
// but that it ends the pin of a promotion: the source has caught up.
func (s *Store) ActivatePolicy(ctx context.Context, by models.Actor, p PolicyRevision, archive []byte) error {
	return s.write(ctx, "activate_policy", by, func(t *tx) error {
		state, err := t.lockPolicy()
		switch {
		case err != nil:
			return err
		case state.Promoted && state.Digest == p.Digest:
		case state.Digest == p.Digest && state.ArchiveDigest == p.ArchiveDigest:
			return nil
		case state.Pinned:
			return models.NewError(models.CodeConflict, fmt.Sprintf("revision %s of the policy is pinned", state.Revision))
		}
		row, err := newPolicyBundleRow(p, t.now, archive)
		if err != nil {
			return err
		}
		if err := t.db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "digest"}}, UpdateAll: true}).Create(&row).Error; err != nil {
			return err
		}
		return t.putInForce(PolicyActivated, row, state, nil)
	})
}

// RefusePolicy notes that the gate refused a candidate, unless that is the last
// thing that happened: of several servers with the same source one tells.
func (s *Store) RefusePolicy(ctx context.Context, by models.Actor, p PolicyRevision) error {
	return s.refusePolicy(ctx, PolicyRefused, by, p)
}

func (s *Store) refusePolicy(ctx context.Context, kind PolicyEventKind, by models.Actor, p PolicyRevision) error {
	return s.write(ctx, "refuse_policy", by, func(t *tx) error {
		if _, err := t.lockPolicy(); err != nil {
			return err
		}
		row, err := newPolicyBundleRow(p, t.now, nil)
		if err != nil {
			return err
		}
		var last policyEventRow
		if err := t.db.Order("id DESC").Limit(1).Find(&last).Error; err != nil {
			return err
		}
		if last.Kind == kind && last.Digest == row.Digest && last.ArchiveDigest == row.ArchiveDigest && last.Result == row.Result {
			return nil
		}
		return t.policyEvent(kind, row, nil)
	})
}

// RollBackPolicy puts a kept revision in force again, named by its revision or its
// digest, and pins it: no server follows its source until [Store.ResumePolicy].
// It is CodeNotFound if none of the name is kept, and CodeConflict if several are.
func (s *Store) RollBackPolicy(ctx context.Context, by models.Actor, name string) (PolicyState, error) {
	var after policyStateRow
	err := s.write(ctx, "roll_back_policy", by, func(t *tx) error {
		state, err := t.lockPolicy()
		if err != nil {
			return err
		}
		row, err := findPolicy(t.db, name)
		if err != nil {
			return err
		}
		if after = state; state.Digest == row.Digest && state.Pinned && !state.Promoted {
			return nil
		}
		if err := t.db.Exec("UPDATE policy_bundles SET activated_at = ? WHERE digest = ?", t.now, row.Digest).Error; err != nil {
			return err
		}
		row.ActivatedAt = t.now
		if err := t.putInForce(PolicyRolledBack, row, state, nil); err != nil {
			return err
		}
		after, err = t.lockPolicy()
		return err
	})
	return after.model(), err
}

// ResumePolicy lifts the pin, if there is one, and tells all servers to look at
// what their source holds again.
func (s *Store) ResumePolicy(ctx context.Context, by models.Actor) (PolicyState, error) {
	var state policyStateRow
	err := s.write(ctx, "resume_policy", by, func(t *tx) error {
		var err error
		if state, err = t.lockPolicy(); err != nil {
			return err
		}
		state.Pinned, state.Promoted, state.Resumed = false, false, state.Resumed+1
		if err := t.db.Exec("UPDATE policy_state SET pinned = ?, promoted = ?, resumed = ?", false, false, state.Resumed).Error; err != nil {
			return err
		}
		return t.policyEvent(PolicyResumed, policyBundleRow{
			Digest: state.Digest, ArchiveDigest: state.ArchiveDigest, Revision: state.Revision, Source: state.Source, Result: "{}", Summary: "{}",
		}, nil)
	})
	return state.model(), err
}

// lockPolicy reads which policy is in force, and keeps it so until the
// transaction ends.
func (t *tx) lockPolicy() (row policyStateRow, err error) {
	err = t.db.Clauses(clause.Locking{Strength: "UPDATE"}).Where("one = 1").Limit(1).Find(&row).Error
	return row, err
}

// findPolicy returns the kept revision of a name, without its archive.
func findPolicy(db *gorm.DB, name string) (policyBundleRow, error) {
	var rows []policyBundleRow
	if storable(name) {
		err := db.Omit("archive").Where("digest = ? OR revision = ?", name, name).Order("activated_at DESC").Find(&rows).Error
		if err != nil {
			return policyBundleRow{}, err
		}
	}
	switch len(rows) {
	case 0:
		return policyBundleRow{}, models.NewError(models.CodeNotFound, "no such revision of the policy is kept; the history lists those that are")
	case 1:
		return rows[0], nil
	}
	digests := make([]string, len(rows))
	for i, r := range rows {
		if r.Digest == name {
			return r, nil
		}
		digests[i] = r.Digest
	}
	return policyBundleRow{}, models.NewError(models.CodeConflict, "several revisions of the policy have this name; give the digest of one: "+strings.Join(digests, ", "))
}

// putInForce makes row the policy in force and forgets the oldest. detail is for
// the audit log.
func (t *tx) putInForce(kind PolicyEventKind, row policyBundleRow, before policyStateRow, detail map[string]string) error {
	since := t.now
	if kind == PolicyActivated && before.Digest == row.Digest {
		since = before.Since
	}
	promoted := kind == PolicyPromoted
	if err := t.db.Exec("UPDATE policy_state SET digest = ?, archive_digest = ?, revision = ?, source = ?, since = ?, pinned = ?, promoted = ?",
		row.Digest, row.ArchiveDigest, row.Revision, row.Source, since, promoted || kind == PolicyRolledBack, promoted).Error; err != nil {
		return err
	}
	if err := t.db.Exec(`DELETE FROM policy_bundles WHERE digest <> ? AND digest NOT IN (
		SELECT digest FROM policy_bundles WHERE digest <> ? ORDER BY activated_at DESC, digest LIMIT ?)`,
		row.Digest, row.Digest, KeptPolicies-1).Error; err != nil {
		return err
	}
	all := map[string]string{"before": before.Revision}
	maps.Copy(all, detail)
	return t.policyEvent(kind, row, all)
}

// policyEvent notes what happened, for the history and for the audit log.
func (t *tx) policyEvent(kind PolicyEventKind, row policyBundleRow, detail map[string]string) error {
	event := policyEventRow{
		At: t.now, Kind: kind, Digest: row.Digest, ArchiveDigest: row.ArchiveDigest, Revision: row.Revision, Source: row.Source,
		SignedBy: row.SignedBy, Result: row.Result, ActorKind: t.by.Kind, ActorUserID: note(t.by.UserID),
	}
	if err := t.db.Create(&event).Error; err != nil {
		return err
	}
	if err := t.db.Exec("DELETE FROM policy_events WHERE id <= ?", event.ID-keptPolicyEvents).Error; err != nil {
		return err
	}
	all := map[string]string{"revision": note(row.Revision), "source": note(row.Source)}
	for key, value := range row.model().Summary {
		all[key] = note(value)
	}
	if row.SignedBy != "" {
		all["signed_by"] = note(row.SignedBy)
	}
	maps.Copy(all, detail)
	return t.audit("policy."+string(kind), onPolicy(row.Digest), all)
}

func newPolicyBundleRow(p PolicyRevision, now time.Time, archive []byte) (policyBundleRow, error) {
	summary, err := json.Marshal(p.Summary)
	if err != nil {
		return policyBundleRow{}, fmt.Errorf("write the summary of a policy: %w", err)
	}
	return policyBundleRow{
		Digest: p.Digest, ArchiveDigest: p.ArchiveDigest, Revision: note(p.Revision), Source: note(p.Source), SignedBy: note(p.SignedBy),
		Result: clean(string(p.Result)), Summary: clean(string(summary)), ActivatedAt: now, Archive: archive,
	}, nil
}

// clean makes a text storable, however long it is.
func clean(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}
