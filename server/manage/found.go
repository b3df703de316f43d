package manage

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"patrol/models"
)

// RevokeFound revokes the tokens among texts that somebody found. Nobody is told which of them were
// tokens. actor returns who revokes a token, and from is the address of who found them.
func (s *Service) RevokeFound(ctx context.Context, from string, texts []string, actor func(userID, tokenID string) models.Actor) error {
	if err := s.found.begin(from, s.now(), s.cfg.FoundPerMinute, "at most %d reports of found tokens are taken from one address in a minute"); err != nil {
		return err
	}
	shown := map[string]models.Token{}
	for _, text := range texts {
		token, err := models.ParseToken(text)
		if _, twice := shown[token.ID]; err == nil && !twice {
			shown[token.ID] = token
		}
	}
	if len(shown) == 0 {
		return nil
	}
	held, err := s.store.VerifiersOf(ctx, slices.Sorted(maps.Keys(shown)))
	if err != nil {
		return err
	}
	for _, pat := range held {
		switch {
		case s.keys.Verify(shown[pat.ID], pat.KeyID, pat.MAC):
		case s.keys.Status(pat.KeyID) == models.KeyUnknown:
			return models.NewError(models.CodeUnavailable, fmt.Sprintf("a token was hashed with the key %q, which the ring of this server does not have", pat.KeyID))
		default:
			continue
		}
		if pat.RevokedAt != nil {
			continue
		}
		_, err := s.store.RevokeFor(ctx, actor(pat.UserID, pat.ID), pat.UserID, pat.ID, LeakedReason)
		if err != nil && models.CodeOf(err) != models.CodeNotFound { // else it was deleted meanwhile
			return err
		}
	}
	return nil
}
