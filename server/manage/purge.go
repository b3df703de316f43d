package manage

import (
	"context"
	"time"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
)

// What is kept of tokens that are dead, until their owners, a platform admin or
// the setting tokens.purge_after has it removed. For as long as it is kept, the
// key ring needs the key of the token.

// purgePerCall bounds the records that one call removes: it must end in the time that
// an answer may take.
const purgePerCall = 2000

// PurgePATs removes the records of p's tokens that are dead for some time.
func (s *Service) PurgePATs(ctx context.Context, p models.Principal, olderThan string) (api.Purged, error) {
	var v models.Invalid
	age := readAge("older_than", olderThan, &v)
	if err := v.Err(); err != nil {
		return api.Purged{}, err
	}
	return s.purge(ctx, p, store.Purge{UserID: p.User.ID, Age: age})
}

// PurgeAnyPATs is [Service.PurgePATs] of another user, or of everybody.
func (s *Service) PurgeAnyPATs(ctx context.Context, p models.Principal, in api.Purge) (api.Purged, error) {
	var v models.Invalid
	age := readAge("older_than", in.OlderThan, &v)
	if (in.UserID == "") == !in.All {
		v.Add("user_id", "is required, unless all is true")
	}
	if err := v.Err(); err != nil {
		return api.Purged{}, err
	}
	return s.purge(ctx, p, store.Purge{UserID: in.UserID, Age: age})
}

func (s *Service) purge(ctx context.Context, p models.Principal, what store.Purge) (api.Purged, error) {
	what.Limit = purgePerCall
	n, more, err := s.store.PurgePATs(ctx, p.Actor, what)
	return api.Purged{Purged: n, More: more}, err
}

func readAge(field, text string, v *models.Invalid) time.Duration {
	if text == "" {
		return 0
	}
	age, err := models.ParseDuration(text)
	if err != nil {
		v.Add(field, "%s", err.Error())
	} else if age < 0 {
		v.Add(field, "must not be negative")
	}
	return age
}
