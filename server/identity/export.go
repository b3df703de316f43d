package identity

import (
	"cmp"
	"context"
	"slices"
	"time"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
	"patrol/server/manage"
	"patrol/server/window"
)

// exportEvery is the time between two exports of one person: each reads much.
const exportEvery = 10 * time.Second

// Export returns what is kept about p, for p. What others did is there without where they did
// it from.
func (s *Service) Export(ctx context.Context, p models.Principal) (api.Export, error) {
	if !s.exports.First(s.now(), p.User.ID) {
		return api.Export{}, window.TooSoon(exportEvery, "your data was exported a moment ago")
	}
	out := api.Export{ExportedAt: s.now().UTC(), Account: api.UserOf(p.User), CutShort: []string{}}
	me, err := s.manage.Me(ctx, p.User)
	if err != nil {
		return out, err
	}
	out.Members, out.SignInBy = me.Memberships, me.SignInBy
	identities, err := s.store.Identities(ctx, p.User.ID)
	if err != nil {
		return out, err
	}
	out.Identities = wired(identities, api.IdentityOf)
	codes, err := s.store.PendingCodes(ctx, p.User.ID)
	if err != nil {
		return out, err
	}
	out.Codes = wired(codes, func(c store.PendingCode) api.PendingCode { return api.PendingCode(c) })
	sessions, err := s.SessionsOf(ctx, p)
	if err != nil {
		return out, err
	}
	out.Sessions = wired(sessions, func(one Session) api.ExportedSession {
		return api.ExportedSession{Program: one.Program, IP: one.IP, UserAgent: one.Agent, SignedIn: one.SignedIn.UTC(), Seen: one.Seen.UTC(), Ends: one.Ends.UTC()}
	})
	pats, more, err := upTo(func(page store.Page) ([]models.PAT, string, error) {
		return s.store.PATs(ctx, store.PATFilter{UserID: p.User.ID}, page)
	})
	if err != nil {
		return out, err
	}
	if more {
		out.CutShort = append(out.CutShort, "tokens")
	}
	out.Tokens = wired(pats, func(pat models.PAT) api.ExportedPAT {
		return api.ExportedPAT{PAT: api.PATOf(s.manage.Counted(pat), s.now()), LastUsedAgent: pat.LastUsedAgent}
	})
	if err := s.exportEvents(ctx, p, &out); err != nil {
		return out, err
	}
	if err := s.exportDecisions(ctx, p, &out); err != nil {
		return out, err
	}
	return out, s.store.Audit(ctx, p.Actor, "user.export", "user:"+p.User.ID, nil)
}

func (s *Service) exportEvents(ctx context.Context, p models.Principal, out *api.Export) error {
	var all []store.AuditEvent
	for _, filter := range []store.AuditFilter{{UserID: p.User.ID}, {Subject: "user:" + p.User.ID}} {
		events, more, err := upTo(func(page store.Page) ([]store.AuditEvent, string, error) {
			return s.store.AuditEvents(ctx, filter, page)
		})
		if err != nil {
			return err
		}
		if more && !slices.Contains(out.CutShort, "events") {
			out.CutShort = append(out.CutShort, "events")
		}
		all = append(all, events...)
	}
	slices.SortFunc(all, func(a, b store.AuditEvent) int { return cmp.Compare(b.ID, a.ID) })
	all = slices.CompactFunc(all, func(a, b store.AuditEvent) bool { return a.ID == b.ID })
	out.Events = wired(all, func(e store.AuditEvent) api.AuditEvent {
		if e.Actor.UserID != p.User.ID && e.Actor.UserID != "" {
			e.Actor.IP, e.Actor.UserAgent, e.Actor.RequestID = "", "", ""
		}
		return manage.WireEvent(e)
	})
	return nil
}

func (s *Service) exportDecisions(ctx context.Context, p models.Principal, out *api.Export) error {
	out.Decisions = []api.ExportedDecision{}
	if !s.manage.HasLog() {
		return nil
	}
	decisions, more, err := upTo(func(page store.Page) ([]models.LoggedDecision, string, error) {
		return s.manage.Decisions(ctx, store.DecisionFilter{UserID: p.User.ID}, page)
	})
	if err != nil {
		return err
	}
	if more {
		out.CutShort = append(out.CutShort, "decisions")
	}
	out.Decisions = wired(decisions, func(d models.LoggedDecision) api.ExportedDecision {
		return api.ExportedDecision{
			ID: d.ID, At: d.At.UTC(), TokenID: d.TokenID, Surface: d.Surface, IP: d.RequestedBy, Allowed: d.Allowed,
			Domain: d.Request.Domain, EntityType: d.Request.EntityType, Entity: d.Request.Entity, Operation: d.Request.Operation,
		}
	})
	return nil
}

// upTo reads a list, up to what an export has of one, and reports whether there is more.
func upTo[T any](read func(store.Page) ([]T, string, error)) (found []T, more bool, err error) {
	page := store.Page{Limit: manage.MaxPage}
	for len(found) < api.MaxExported {
		items, next, err := read(page)
		if err != nil {
			return nil, false, err
		}
		if found = append(found, items...); next == "" {
			return found, false, nil
		}
		page.After = next
	}
	return found, true, nil
}

// wired returns a list in the form of the API, which is never null.
func wired[M, W any](items []M, wire func(M) W) []W {
	out := make([]W, len(items))
	for i, item := range items {
		out[i] = wire(item)
	}
	return out
}
