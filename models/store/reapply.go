package store

import (
	"context"
	"strings"

	"patrol/models"
)

// The part of [Store.Reapply] for other things than tokens and people.

// reapplyLimits makes a domain demand of tokens what it demanded last, beside what it
// demands now.
func (t *tx) reapplyLimits(id string, stone models.Tombstone) (bool, error) {
	last, ok := models.ParseDomainLimits(stone.Detail["to"])
	if !ok {
		return false, models.NewError(models.CodeConflict, "a tombstone has limits of a domain that this version does not know: use the version that wrote it")
	}
	var row domainRow
	result := t.db.Where("id = ?", id).Limit(1).Find(&row)
	if result.Error != nil || result.RowsAffected == 0 {
		return false, result.Error
	}
	limited := row.with(row.limits().Stricter(last))
	if limited == row {
		return false, nil
	}
	t.change(ChangeDomain, id, "")
	return true, t.db.Model(&domainRow{}).Where("id = ?", id).Updates(map[string]any{
		"max_lifetime": limited.MaxLifetime, "no_wildcards": limited.NoWildcards, "approval": limited.Approval,
	}).Error
}

// reapplyRetired takes a key out of use again, also if new tokens would be made of
// it: servers then use the first other one of their rings.
func (t *tx) reapplyRetired(id string, stone models.Tombstone) (bool, error) {
	result := t.db.Exec(`INSERT INTO token_keys (id, check_value, added_at, retired_at) VALUES (?, '', ?, ?)
		ON CONFLICT (id) DO UPDATE SET retired_at = excluded.retired_at WHERE token_keys.retired_at IS NULL`, id, t.now, exact(stone.At))
	if result.Error != nil || result.RowsAffected == 0 {
		return false, result.Error
	}
	return true, t.db.Exec("UPDATE installation SET promoted_key = '' WHERE promoted_key = ?", id).Error
}

// LastPolicy returns the digest and the revision of the policy that came into force
// last by the tombstones, "" if they have none.
func LastPolicy(stones []models.Tombstone) (digest, revision string) {
	var last models.Tombstone
	for _, stone := range stones {
		if ofPolicy(stone) && stone.At.After(last.At) {
			last = stone
		}
	}
	_, digest, _ = strings.Cut(last.Subject, ":")
	return digest, last.Detail["revision"]
}

// ofPolicy reports whether a tombstone is about the policy in force, which is not put
// in force again by it.
func ofPolicy(stone models.Tombstone) bool {
	return stone.Action == "policy.activate" || stone.Action == "policy.rollback" || stone.Action == "policy.promote"
}

// LostPolicy returns the revision of the policy that came into force last by the
// tombstones, if the database does not know of it; else "".
func (s *Store) LostPolicy(ctx context.Context, stones []models.Tombstone) (revision string, err error) {
	var of []models.Tombstone
	for _, stone := range stones {
		if ofPolicy(stone) {
			of = append(of, stone)
		}
	}
	lost, err := s.lost(ctx, of)
	if err != nil || len(lost) == 0 {
		return "", err
	}
	state, err := s.PolicyState(ctx)
	digest, revision := LastPolicy(lost)
	if err != nil || digest == state.Digest {
		return "", err
	}
	return revision, nil
}
