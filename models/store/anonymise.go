package store

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"patrol/models"
)

// hashedEmail replaces the address of an anonymised user by a keyed hash, by
// which the address stays taken. Who has the database has the key and can try addresses.
func (t *tx) hashedEmail(email string) (string, error) {
	var key string
	if err := t.db.Raw("SELECT email_key FROM installation").Find(&key).Error; err != nil {
		return "", err
	}
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(email))
	return hex.EncodeToString(mac.Sum(nil)[:20]) + models.AnonymisedDomain, nil
}

// AnonymiseUser takes what names a user who is disabled out of the database, for good: name,
// address, password, identities, sessions, memberships, names and descriptions of tokens and
// where they were used, and all of that in the audit log. The address stays taken, as a keyed hash.
// The id stays, by which events can be told to be of one person. A user who is not disabled is
// CodeConflict; one who is anonymised already stays so.
func (s *Store) AnonymiseUser(ctx context.Context, by models.Actor, id string) (models.User, error) {
	var row userRow
	err := s.write(ctx, "anonymise_user", by, func(t *tx) (err error) {
		if row, err = t.lockUser(id); err != nil || row.model().Anonymised() {
			return err
		}
		if !row.Disabled {
			return models.NewError(models.CodeConflict, "disable the account first; anonymising it cannot be undone")
		}
		if err := t.remove(id, models.Removal{Identities: true, Sessions: true, Codes: true, Tokens: true}); err != nil {
			return err
		}
		if err := t.db.Where("user_id = ?", id).Delete(&codeRow{}).Error; err != nil {
			return err
		}
		if err := t.leaveDomains(id); err != nil {
			return err
		}
		before := row
		addresses, err := t.hashEmails(before)
		if err != nil {
			return err
		}
		row.Email = addresses[before.Email]
		row.Name, row.PasswordHash, row.ProviderAt = models.AnonymisedName, "", nil
		if err := t.db.Model(&userRow{}).Where("id = ?", id).Updates(map[string]any{
			"email": row.Email, "name": row.Name, "password_hash": "", "provider_at": nil, "admin": false, "policy": false,
		}).Error; err != nil {
			return err
		}
		row.Admin, row.Policy = false, false
		for _, statement := range []string{
			"UPDATE pats SET name = id, description = '', last_used_at = NULL, last_used_ip = '', last_used_agent = '', revoked_reason = '' WHERE user_id = ?",
			"UPDATE withdrawals SET reason = '' WHERE withdrawn_by = ?",
			"UPDATE withdrawals SET reason = '' WHERE pat_id IN (SELECT id FROM pats WHERE user_id = ?)",
			"DELETE FROM sessions WHERE user_id = ?",
		} {
			if err := t.db.Exec(statement, id).Error; err != nil {
				return err
			}
		}
		if err := t.changeTokens(id); err != nil {
			return err
		}
		if err := t.upkeep(func() error { return t.anonymiseEvents(before, addresses) }); err != nil {
			return err
		}
		// What this very transaction notes has not been written yet.
		for i := range t.events {
			nameless(&t.events[i], before, addresses)
		}
		t.change(ChangeUser, id, "")
		return t.audit("user.anonymise", onUser(id), nil)
	})
	if err != nil {
		return models.User{}, err
	}
	return row.model(), nil
}

// leaveDomains ends the memberships of a user.
func (t *tx) leaveDomains(userID string) error {
	var rows []membershipRow
	if err := t.db.Where("user_id = ?", userID).Order("domain").Find(&rows).Error; err != nil {
		return err
	}
	for _, row := range rows {
		if err := t.db.Where("user_id = ? AND domain = ?", userID, row.Domain).Delete(&membershipRow{}).Error; err != nil {
			return err
		}
		t.change(ChangeMembership, userID, row.Domain)
		if err := t.audit("member.remove", onMember(row.Domain, userID), map[string]string{"role": row.Role}); err != nil {
			return err
		}
	}
	return nil
}

// changeTokens puts a change of each token of a user into the feed.
func (t *tx) changeTokens(userID string) error {
	var ids []string
	if err := t.db.Raw("SELECT id FROM pats WHERE user_id = ? ORDER BY id", userID).Find(&ids).Error; err != nil {
		return err
	}
	for _, id := range ids {
		t.change(ChangeToken, id, "")
	}
	return nil
}

// hashEmails puts keyed hashes in place of the addresses that a user had before, and returns
// what stands for each address of the user from now on.
func (t *tx) hashEmails(user userRow) (map[string]string, error) {
	former, err := t.formerEmails(user.ID)
	if err != nil {
		return nil, err
	}
	addresses := map[string]string{}
	for _, email := range append(former, user.Email) {
		if addresses[email], err = t.hashedEmail(email); err != nil {
			return nil, err
		}
	}
	for _, email := range former {
		if err := t.db.Exec("UPDATE former_emails SET email = ? WHERE email = ?", addresses[email], email).Error; err != nil {
			return nil, err
		}
	}
	return addresses, nil
}

// anonymiseEvents takes what names a user out of the audit log. addresses has what stands for
// each address of the user.
func (t *tx) anonymiseEvents(user userRow, addresses map[string]string) error {
	where := []string{`SELECT * FROM audit_events WHERE id > ? AND (actor_user_id = ? OR subject = ? OR subject IN (SELECT 'pat:' || id FROM pats WHERE user_id = ?)`}
	about := []any{user.ID, onUser(user.ID), user.ID}
	escape := strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`)
	for email := range addresses {
		quoted, err := json.Marshal(email) // as it may stand in the detail
		if err != nil {
			return err
		}
		for _, text := range []string{email, string(quoted[1 : len(quoted)-1])} {
			where = append(where, `lower(CAST(detail AS text)) LIKE lower(?) ESCAPE '\'`)
			about = append(about, "%"+escape.Replace(text)+"%")
		}
	}
	query := strings.Join(where, " OR ") + ") ORDER BY id LIMIT ?"
	last := int64(0)
	for {
		var rows []auditRow
		err := t.db.Raw(query, slices.Concat([]any{last}, about, []any{upkeepBatch})...).Find(&rows).Error
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, row := range rows {
			last = row.ID
			if !nameless(&row, user, addresses) {
				continue
			}
			if err := t.db.Exec("UPDATE audit_events SET ip = ?, user_agent = ?, detail = ? WHERE id = ?", row.IP, row.UserAgent, row.Detail, row.ID).Error; err != nil {
				return err
			}
		}
	}
}

// namedIn are the members of an event's detail that hold what its subject is called, or calls
// itself somewhere: of a user or a token of theirs.
var namedIn = []string{"name", "from", "to", "description", "reason"}

// nameless takes what names a user out of an event, and reports whether there was something.
func nameless(row *auditRow, user userRow, addresses map[string]string) bool {
	before := *row
	if row.ActorUserID == user.ID {
		row.IP, row.UserAgent = "", ""
	}
	var detail map[string]string
	if json.Unmarshal([]byte(row.Detail), &detail) != nil {
		detail = map[string]string{}
	}
	own := row.Subject == onUser(user.ID) || detail["user_id"] == user.ID && strings.HasPrefix(row.Subject, "pat:")
	for _, key := range slices.Sorted(maps.Keys(detail)) {
		if own && slices.Contains(namedIn, key) || row.Subject == onUser(user.ID) && key == "subject" {
			detail[key] = ""
			continue
		}
		for email, hashed := range addresses {
			detail[key] = withoutAddress(detail[key], email, hashed)
		}
	}
	if text, err := json.Marshal(detail); err == nil && row.Detail != "" {
		row.Detail = string(text)
	}
	return *row != before
}

// withoutAddress puts something else in the place of an address in a text, however it is
// written. A longer address that only has it in it is another person's, and stays.
func withoutAddress(text, address, instead string) string {
	lower := strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, text)
	var out strings.Builder
	for at := 0; ; {
		i := strings.Index(lower[at:], address)
		if i < 0 || len(lower) != len(text) { // not UTF-8: nothing that was written here
			out.WriteString(text[at:])
			return out.String()
		}
		i += at
		end := i + len(address)
		before, _ := utf8.DecodeLastRuneInString(text[:i])
		after, width := utf8.DecodeRuneInString(text[end:])
		next, _ := utf8.DecodeRuneInString(text[end+width:])
		if i > 0 && inAddress(before) || end < len(text) && (inHost(after) || after == '.' && inHost(next)) {
			out.WriteString(text[at : i+1])
			at = i + 1
			continue
		}
		out.WriteString(text[at:i])
		out.WriteString(instead)
		at = end
	}
}

// inHost reports whether a character goes on with the host of an address.
func inHost(r rune) bool { return r == '-' || unicode.IsLetter(r) || unicode.IsDigit(r) }

// inAddress reports whether a character before an address makes it part of a longer one (RFC 5322,
// atext and the dot, but for what rather parts words).
func inAddress(r rune) bool { return strings.ContainsRune(".!#$%&'*+-_^`~", r) || inHost(r) }
