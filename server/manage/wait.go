package manage

import (
	"context"
	"errors"
	"time"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
)

const (
	// lapseMargin is added to what a server says of itself: it has answered by then what
	// it began to answer while it trusted its cache.
	lapseMargin = time.Second
	// maxAsking bounds the looks at a time at what other servers acknowledged.
	maxAsking = 4
	// askEvery is the pause between two looks, which grows to the other.
	askEvery     = 10 * time.Millisecond
	askAtLeastAs = 250 * time.Millisecond
	// knownWithin bounds the time to learn which servers there are.
	knownWithin = 5 * time.Second
)

// Extend is told until when an act waits, which may be longer than other requests take.
type Extend func(until time.Time)

// RevokeEverywhere is [Service.RevokeFor] that returns once no server on the database
// can allow anything by the token.
func (s *Service) RevokeEverywhere(ctx context.Context, p models.Principal, id, reason string, extend Extend) (models.PAT, api.Reached, error) {
	var v models.Invalid
	models.ValidateReason("reason", reason, false, &v)
	if err := v.Err(); err != nil {
		return models.PAT{}, api.Reached{}, err
	}
	owner := p.User.ID
	if p.User.Admin {
		owner = ""
	}
	pat, mark, err := s.store.RevokeAwaited(ctx, p.Actor, owner, "", id, reason)
	if err != nil {
		return pat, api.Reached{}, err
	}
	reached, err := s.awaitServers(ctx, mark, time.Now(), extend)
	return pat, reached, err
}

// RevokeWithinEverywhere is the same for an admin of a domain.
func (s *Service) RevokeWithinEverywhere(ctx context.Context, p models.Principal, domain, id, reason string, extend Extend) (api.Reached, error) {
	var v models.Invalid
	models.ValidateReason("reason", reason, true, &v)
	if err := v.Err(); err != nil {
		return api.Reached{}, err
	}
	_, mark, err := s.store.RevokeAwaited(ctx, p.Actor, "", domain, id, reason)
	if err != nil {
		return api.Reached{}, s.noteRefused(ctx, p, domain, id, err)
	}
	return s.awaitServers(ctx, mark, time.Now(), extend)
}

// awaitServers waits until every server has acknowledged a change that was committed
// before a time, or can trust nothing that it cached before: it has not read the feed
// since then, and stops to trust its cache when it has not for its maximum staleness.
// This is measured on this process's clock. The servers for which that is all that
// is known are named.
func (s *Service) awaitServers(ctx context.Context, mark store.Mark, committed time.Time, extend Extend) (api.Reached, error) {
	var behind []store.Server
	acknowledged, known := 0, false
	deadline := func() time.Time { // by when all that is left has lapsed
		latest := committed
		for _, v := range behind {
			if at := committed.Add(v.MaxStaleness + lapseMargin); at.After(latest) {
				latest = at
			}
		}
		return latest
	}
	for pause := askEvery; ; pause = min(2*pause, askAtLeastAs) {
		late, reached, err := s.acknowledged(ctx, mark)
		switch {
		case ctx.Err() != nil:
			return api.Reached{}, ctx.Err()
		case errors.Is(err, store.ErrOtherHistory):
			return api.Reached{}, err
		case err == nil:
			behind, acknowledged, known = late, len(reached), true
			extend(deadline())
		case !known && time.Since(committed) > knownWithin: // nor is how long others trust what they have
			return api.Reached{}, models.WrapError(models.CodeUnavailable, "the token is revoked, but which servers know of it cannot be said; try again", err)
		}
		left := time.Until(deadline())
		if known && (len(behind) == 0 || left <= 0) {
			break
		}
		if known {
			pause = min(pause, left)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	out := api.Reached{Acknowledged: acknowledged + 1, Lapsed: []api.Server{}} // this one knew before the write returned
	for _, v := range behind {
		out.Lapsed = append(out.Lapsed, api.Server{ID: v.ID, Name: v.Name, LastSeen: v.LastSeen})
	}
	return out, nil
}

// acknowledged returns which other servers have not acknowledged a change, and which
// have.
func (s *Service) acknowledged(ctx context.Context, mark store.Mark) (behind, reached []store.Server, err error) {
	select {
	case s.asking <- struct{}{}:
		defer func() { <-s.asking }()
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	late, done, err := s.store.Acknowledged(ctx, mark)
	for _, v := range late {
		if v.ID != s.id {
			behind = append(behind, v)
		}
	}
	for _, v := range done {
		if v.ID != s.id {
			reached = append(reached, v)
		}
	}
	return behind, reached, err
}
