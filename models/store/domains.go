package store

import (
	"context"
	"slices"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"patrol/models"
)

// Domain returns the domain, nil if there is none.
func (s *Store) Domain(ctx context.Context, id string) (*models.Domain, error) {
	if !storable(id) {
		return nil, nil
	}
	var row domainRow
	found := false
	err := s.read(ctx, "domain", func(db *gorm.DB) error {
		result := db.Raw("SELECT * FROM domains WHERE id = ?", id).Find(&row)
		found = result.RowsAffected > 0
		return result.Error
	})
	if err != nil || !found {
		return nil, err
	}
	d := row.model()
	return &d, nil
}

// Domains lists domains by id.
func (s *Store) Domains(ctx context.Context, f DomainFilter, p Page) ([]models.Domain, string, error) {
	key, err := p.key("domain", 1)
	if err != nil {
		return nil, "", err
	}
	if !storable(f.UserID, f.Name, string(f.Status)) {
		return []models.Domain{}, "", nil
	}
	var rows []domainRow
	err = s.list(ctx, "domains", func(db *gorm.DB) error {
		q := db.Order("id").Limit(p.limit() + 1)
		if key != nil {
			q = q.Where("id > ?", key[0])
		}
		if f.UserID != "" {
			q = q.Where("id IN (SELECT domain FROM memberships WHERE user_id = ?)", f.UserID)
		}
		if f.Name != "" {
			q = q.Where(`(LOWER(name) LIKE LOWER(?) ESCAPE '\' OR id LIKE LOWER(?) ESCAPE '\')`, contains(nfc(f.Name)), contains(f.Name))
		}
		if f.Status != "" {
			q = q.Where("status = ?", f.Status)
		}
		return q.Find(&rows).Error
	})
	if err != nil {
		return nil, "", err
	}
	domains, next := cut(rows, p.limit(), domainRow.model, func(r domainRow) string { return newCursor("domain", r.ID) })
	return domains, next, nil
}

// KnownDomains returns those of the domains that a user may know of, by id: the ones
// that the user is a member of, or all for a platform admin.
func (s *Store) KnownDomains(ctx context.Context, userID string, admin bool, ids []string) (map[string]models.Domain, error) {
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !storable(id) })
	known := make(map[string]models.Domain, len(ids))
	if len(ids) == 0 || !storable(userID) {
		return known, nil
	}
	var rows []domainRow
	err := s.read(ctx, "known_domains", func(db *gorm.DB) error {
		q := db.Where("id IN ?", ids)
		if !admin {
			q = q.Where("EXISTS (SELECT 1 FROM memberships m WHERE m.domain = domains.id AND m.user_id = ?)", userID)
		}
		return q.Find(&rows).Error
	})
	for _, r := range rows {
		known[r.ID] = r.model()
	}
	return known, err
}

// CreateDomain adds a domain, enabled unless it says otherwise. An id that is or
// was in use is CodeTaken.
func (s *Store) CreateDomain(ctx context.Context, by models.Actor, d models.Domain) (models.Domain, error) {
	if d.Status == "" {
		d.Status = models.DomainEnabled
	}
	var row domainRow
	err := s.write(ctx, "create_domain", by, func(t *tx) error {
		created := d
		if created.CreatedAt.IsZero() {
			created.CreatedAt = t.now
		}
		row = newDomainRow(created)
		if err := t.db.Create(&row).Error; err != nil {
			if isDuplicate(err) {
				return models.WrapError(models.CodeTaken, "there is a domain with this id already", err)
			}
			return err
		}
		t.change(ChangeDomain, row.ID, "")
		return t.audit("domain.create", onDomain(row.ID), map[string]string{"name": row.Name, "status": string(row.Status)})
	})
	if err != nil {
		return models.Domain{}, err
	}
	return row.model(), nil
}

// UpdateDomain changes a domain.
func (s *Store) UpdateDomain(ctx context.Context, by models.Actor, id string, p DomainPatch) (models.Domain, error) {
	var row domainRow
	err := s.write(ctx, "update_domain", by, func(t *tx) error {
		var err error
		if row, err = t.lockDomain(id); err != nil {
			return err
		}
		before := row
		apply(p.Name, &row.Name)
		apply(p.Status, &row.Status)
		if p.Limits != nil {
			row = row.with(*p.Limits)
		}
		if row == before {
			return nil
		}
		if err := t.db.Model(&domainRow{}).Where("id = ?", id).Updates(map[string]any{
			"name": row.Name, "status": row.Status,
			"max_lifetime": row.MaxLifetime, "no_wildcards": row.NoWildcards, "approval": row.Approval,
		}).Error; err != nil {
			return err
		}
		t.change(ChangeDomain, id, "")
		if before.Name != row.Name {
			if err := t.audit("domain.rename", onDomain(id), map[string]string{"from": before.Name, "to": row.Name}); err != nil {
				return err
			}
		}
		if from, to := before.limits(), row.limits(); from != to {
			if err := t.audit("domain.limits", onDomain(id), map[string]string{"from": from.String(), "to": to.String()}); err != nil {
				return err
			}
		}
		if before.Status != row.Status {
			return t.audit("domain.status", onDomain(id), map[string]string{"from": string(before.Status), "to": string(row.Status)})
		}
		return nil
	})
	if err != nil {
		return models.Domain{}, err
	}
	return row.model(), nil
}

// lockDomain reads a domain and keeps others from changing it, or its members,
// until the transaction ends.
func (t *tx) lockDomain(id string) (domainRow, error) {
	var row domainRow
	if !storable(id) {
		return row, notFound("domain")
	}
	result := t.db.Clauses(clause.Locking{Strength: "NO KEY UPDATE"}).Where("id = ?", id).Limit(1).Find(&row)
	if result.Error == nil && result.RowsAffected == 0 {
		return row, notFound("domain")
	}
	return row, result.Error
}

// Membership returns the user's role in the domain, nil if there is none.
func (s *Store) Membership(ctx context.Context, userID, domain string) (*models.Membership, error) {
	if !storable(userID, domain) {
		return nil, nil
	}
	var row membershipRow
	found := false
	err := s.read(ctx, "membership", func(db *gorm.DB) error {
		result := db.Raw("SELECT * FROM memberships WHERE user_id = ? AND domain = ?", userID, domain).Find(&row)
		found = result.RowsAffected > 0
		return result.Error
	})
	if err != nil || !found {
		return nil, err
	}
	return new(models.Membership(row)), nil
}

// standingRow is a user, a domain and a membership beside each other. Ids are NULL of
// what is not there.
type standingRow struct {
	UserID, Email, UserName, PasswordHash *string
	Admin, Policy, Disabled               *bool
	UserAt                                *time.Time
	DomainID, DomainName                  *string
	Status                                *models.DomainStatus
	MaxLifetime                           *int64
	NoWildcards, Approval                 *bool
	DomainAt                              *time.Time
	Role                                  *string
	ProviderAt                            *time.Time
}

// Standing is [Store.User], [Store.Domain] and [Store.Membership] in one statement.
func (f Facts) Standing(ctx context.Context, userID, domain string) (st models.Standing, err error) {
	if !storable(userID, domain) { // what is not is not there
		if st.User, err = f.User(ctx, userID); err != nil {
			return st, err
		}
		st.Domain, err = f.Domain(ctx, domain)
		return st, err
	}
	var row standingRow
	err = f.store.read(as(ctx, deciding), "standing", func(db *gorm.DB) error {
		row = standingRow{}
		return db.Raw(`SELECT u.id AS user_id, u.email, u.name AS user_name, u.password_hash, u.admin, u.policy, u.disabled, u.created_at AS user_at, u.provider_at,
				d.id AS domain_id, d.name AS domain_name, d.status, d.max_lifetime, d.no_wildcards, d.approval, d.created_at AS domain_at, m.role
			FROM (SELECT 1 AS one) AS o LEFT JOIN users u ON u.id = ? LEFT JOIN domains d ON d.id = ?
			LEFT JOIN memberships m ON m.user_id = ? AND m.domain = ?`, userID, domain, userID, domain).Find(&row).Error
	})
	if err != nil {
		return st, err
	}
	if row.UserID != nil {
		st.User = new(userRow{
			ID: *row.UserID, Email: *row.Email, Name: *row.UserName, PasswordHash: *row.PasswordHash,
			Admin: *row.Admin, Policy: *row.Policy, Disabled: *row.Disabled, CreatedAt: *row.UserAt, ProviderAt: row.ProviderAt,
		}.model())
	}
	if row.DomainID != nil {
		st.Domain = new(domainRow{
			ID: *row.DomainID, Name: *row.DomainName, Status: *row.Status, MaxLifetime: *row.MaxLifetime,
			NoWildcards: *row.NoWildcards, Approval: *row.Approval, CreatedAt: *row.DomainAt,
		}.model())
	}
	if row.Role != nil {
		st.Membership = &models.Membership{UserID: userID, Domain: domain, Role: *row.Role}
	}
	return st, nil
}

// Memberships returns all roles of a user, by domain.
func (s *Store) Memberships(ctx context.Context, userID string) ([]models.Membership, error) {
	if !storable(userID) {
		return []models.Membership{}, nil
	}
	var rows []membershipRow
	err := s.read(ctx, "memberships", func(db *gorm.DB) error {
		return db.Where("user_id = ?", userID).Order("domain").Find(&rows).Error
	})
	if err != nil {
		return nil, err
	}
	memberships := make([]models.Membership, len(rows))
	for i, r := range rows {
		memberships[i] = models.Membership(r)
	}
	return memberships, nil
}

// Members lists a domain's members by email address.
func (s *Store) Members(ctx context.Context, domain string, f MemberFilter, p Page) ([]Member, string, error) {
	key, err := p.key("member", 1)
	if err != nil {
		return nil, "", err
	}
	if !storable(domain, f.UserID, f.Email) {
		return []Member{}, "", nil
	}
	var rows []Member
	err = s.list(ctx, "members", func(db *gorm.DB) error {
		q := db.Table("memberships AS m").Joins("JOIN users u ON u.id = m.user_id").
			Select("m.user_id, u.email, m.role").Where("m.domain = ?", domain).
			Order("u.email").Limit(p.limit() + 1)
		if key != nil { // by id, so that no address is in a URL
			q = q.Where("u.email > (SELECT email FROM users WHERE id = ?)", key[0])
		}
		if f.UserID != "" {
			q = q.Where("m.user_id = ?", f.UserID)
		}
		if f.Email != "" {
			q = q.Where(`u.email LIKE ? ESCAPE '\'`, contains(models.NormalizeEmail(f.Email)))
		}
		return q.Find(&rows).Error
	})
	if err != nil {
		return nil, "", err
	}
	members, next := cut(rows, p.limit(), func(m Member) Member { return m }, func(m Member) string { return newCursor("member", m.UserID) })
	return members, next, nil
}

// SetMember gives a user a role in a domain, in place of the one that the user
// has there. It reports whether the user became a member by it. Both must exist:
// CodeNotFound.
func (s *Store) SetMember(ctx context.Context, by models.Actor, m models.Membership) (created bool, err error) {
	err = s.write(ctx, "set_member", by, func(t *tx) error {
		before, err := t.lockMember(m.UserID, m.Domain)
		if err != nil {
			return err
		}
		created = before == nil
		if before != nil && before.Role == m.Role {
			return nil
		}
		row := membershipRow(m)
		if err := t.db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&row).Error; err != nil {
			return err
		}
		detail := map[string]string{"role": m.Role}
		if before != nil {
			if err := t.endApprovalsIn(m.UserID, m.Domain); err != nil {
				return err
			}
			detail["from"] = before.Role
		}
		t.change(ChangeMembership, m.UserID, m.Domain)
		return t.audit("member.set", onMember(m.Domain, m.UserID), detail)
	})
	return created && err == nil, err
}

// RemoveMember takes a user's role in a domain away, and with it the approvals that they
// gave there. Who is no member is
// CodeNotFound.
func (s *Store) RemoveMember(ctx context.Context, by models.Actor, userID, domain string) error {
	return s.write(ctx, "remove_member", by, func(t *tx) error {
		before, err := t.lockMember(userID, domain)
		if err != nil {
			return err
		}
		if before == nil {
			return notFound("member")
		}
		if err := t.db.Where("user_id = ? AND domain = ?", userID, domain).Delete(&membershipRow{}).Error; err != nil {
			return err
		}
		if err := t.endApprovalsIn(userID, domain); err != nil {
			return err
		}
		t.change(ChangeMembership, userID, domain)
		return t.audit("member.remove", onMember(domain, userID), map[string]string{"role": before.Role})
	})
}

// lockMember reads a membership, nil if there is none, and keeps others from
// changing the domain's members until the transaction ends.
func (t *tx) lockMember(userID, domain string) (*membershipRow, error) {
	if _, err := t.lockDomain(domain); err != nil {
		return nil, err
	}
	if !storable(userID) {
		return nil, notFound("user")
	}
	var users int64
	if err := t.db.Raw("SELECT COUNT(*) FROM users WHERE id = ?", userID).Find(&users).Error; err != nil {
		return nil, err
	}
	if users == 0 {
		return nil, notFound("user")
	}
	var row membershipRow
	result := t.db.Where("user_id = ? AND domain = ?", userID, domain).Limit(1).Find(&row)
	if result.Error != nil || result.RowsAffected == 0 {
		return nil, result.Error
	}
	return &row, nil
}
