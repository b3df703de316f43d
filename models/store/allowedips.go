package store

import (
	"fmt"
	"slices"
	"strings"

	"patrol/models"
)

// setAllowedIPs changes the addresses from which a token may be used, if p does. A dead
// token is CodeConflict, and so is one that was rotated if it is to be good for more. More
// addresses end the approvals of domains, which were for less.
func (t *tx) setAllowedIPs(row patRow, p PATPatch) error {
	if p.AllowedIPs == nil || slices.Equal(row.AllowedIPs, *p.AllowedIPs) {
		return nil
	}
	to := *p.AllowedIPs
	if limit := t.config.Limits.MaxAllowedIPs; len(to) > limit {
		return models.NewError(models.CodeLimitReached, fmt.Sprintf("a token can be limited to at most %d addresses and ranges", limit))
	}
	if status := t.status(row); status != models.StatusActive {
		return models.NewError(models.CodeConflict, fmt.Sprintf("the token is %s; its addresses do not change any more", status))
	}
	detail := map[string]string{"user_id": row.UserID, "from": strings.Join(row.AllowedIPs, " "), "to": strings.Join(to, " ")}
	if models.WidensAllowedIPs(row.AllowedIPs, to) {
		switch {
		case p.NoWider:
			return models.NewError(models.CodeReauthentication, "more addresses need a recent sign-in")
		case row.RotatedTo != "":
			return models.NewError(models.CodeConflict, "the token was rotated; change its successor")
		}
		lost, err := t.loseApprovals(row, models.Scope{Domain: models.Any})
		if err != nil {
			return err
		}
		if lost != "" {
			detail["approvals_lost"] = lost
		}
	}
	if err := t.writeAllowedIPs(row.ID, to); err != nil {
		return err
	}
	t.outlives(row.ID, row.ExpiresAt)
	return t.audit("pat.allowed_ips", onPAT(row.ID), detail)
}

func (t *tx) writeAllowedIPs(id string, to []string) error {
	t.change(ChangeToken, id, "")
	return t.db.Exec("UPDATE pats SET allowed_ips = ? WHERE id = ?", ipList(to), id).Error
}

// reapplyAllowedIPs leaves a token those of its addresses that it was limited to, and ends
// it if there is none.
func (t *tx) reapplyAllowedIPs(id string, stone models.Tombstone) (bool, error) {
	row, found, err := t.patByID(t.db, id)
	to := strings.Fields(stone.Detail["to"])
	if err != nil || !found || len(to) == 0 || !models.WidensAllowedIPs(to, row.AllowedIPs) {
		return false, err
	}
	both := models.CommonAllowedIPs(row.AllowedIPs, to)
	if len(both) == 0 {
		stone.Action = "pat.revoke"
		return t.reapplyEnd(id, stone)
	}
	return true, t.writeAllowedIPs(id, both)
}
