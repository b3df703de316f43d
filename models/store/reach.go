package store

import (
	"context"

	"gorm.io/gorm"

	"patrol/models"
)

// Standings lists all users by email address, each with the membership in a domain. The domain
// itself is left out.
func (s *Store) Standings(ctx context.Context, domain string, p Page) ([]models.Standing, string, error) {
	key, err := p.key("standing", 1)
	if err != nil {
		return nil, "", err
	}
	if !storable(domain) {
		domain = ""
	}
	type standing struct {
		User userRow `gorm:"embedded"`
		Role *string
	}
	var rows []standing
	err = s.list(ctx, "standings", func(db *gorm.DB) error {
		q := db.Table("users AS u").Joins("LEFT JOIN memberships m ON m.user_id = u.id AND m.domain = ?", domain).
			Select("u.*, m.role").Order("u.email").Limit(p.limit() + 1)
		if key != nil { // by id, so that no address is in a URL
			q = q.Where("u.email > (SELECT email FROM users WHERE id = ?)", key[0])
		}
		return q.Find(&rows).Error
	})
	if err != nil {
		return nil, "", err
	}
	list, next := cut(rows, p.limit(), func(r standing) models.Standing {
		u := r.User.model()
		found := models.Standing{User: &u}
		if r.Role != nil {
			found.Membership = &models.Membership{UserID: u.ID, Domain: domain, Role: *r.Role}
		}
		return found
	}, func(r standing) string { return newCursor("standing", r.User.ID) })
	return list, next, nil
}
