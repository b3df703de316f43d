package manage

import (
	"context"
	"time"

	"patrol/api"
	"patrol/models"
	"patrol/models/store"
)

// HasLog reports whether decisions are kept in a database.
func (s *Service) HasLog() bool { return s.decided != nil }

// ErrNoDecisionLog is the error where decisions are not kept in a database.
var ErrNoDecisionLog = models.NewError(models.CodeNotFound, "decisions are not kept in a database here; the setting is decision_log.database")

// Decisions lists decisions that were made, the latest first, without their input.
func (s *Service) Decisions(ctx context.Context, f store.DecisionFilter, page store.Page) ([]models.LoggedDecision, string, error) {
	if s.decided == nil {
		return nil, "", ErrNoDecisionLog
	}
	return s.decided.Decisions(ctx, f, page)
}

// Decision returns a decision with its input. The error says what is known of one
// that the log does not have.
func (s *Service) Decision(ctx context.Context, id string) (models.LoggedDecision, error) {
	if s.decided == nil {
		return models.LoggedDecision{}, ErrNoDecisionLog
	}
	d, err := s.decided.Decision(ctx, id)
	if err != nil {
		return models.LoggedDecision{}, err
	}
	if d == nil {
		missing, err := s.decided.Missing(ctx, id)
		if err != nil {
			return models.LoggedDecision{}, err
		}
		code := models.CodeNotFound
		if missing.Kind == models.MissingCounted {
			code = models.CodeCountedOnly
		}
		return models.LoggedDecision{}, models.NewError(code, missing.Message())
	}
	return *d, nil
}

// summaryDays is the number of days, this one included, over which a summary of a token's
// decisions goes.
const summaryDays = 7

// PATDecisions counts the decisions of the last seven days about a token of p, by
// day and outcome.
func (s *Service) PATDecisions(ctx context.Context, p models.Principal, id string) (api.DecisionSummary, error) {
	if _, err := s.PAT(ctx, p, id); err != nil {
		return api.DecisionSummary{}, err
	}
	if s.decided == nil {
		return api.DecisionSummary{}, ErrNoDecisionLog
	}
	since := models.DayOf(s.now()).AddDate(0, 0, 1-summaryDays)
	counts, err := s.decided.CountedOutcomes(ctx, id, since)
	if err != nil {
		return api.DecisionSummary{}, err
	}
	coverage, err := s.coverage(ctx, since)
	if err != nil {
		return api.DecisionSummary{}, err
	}
	out := api.DecisionSummary{Coverage: coverage, Reasons: map[string]int64{}, Days: make([]api.DecisionDay, summaryDays)}
	for i := range out.Days {
		out.Days[i].Date = since.AddDate(0, 0, i).Format(time.DateOnly)
	}
	for _, c := range counts {
		i := int(c.Day.Sub(since) / (24 * time.Hour))
		if i < 0 || i >= summaryDays {
			continue // of a clock that runs ahead
		}
		for _, to := range [...]*api.OutcomeCounts{&out.OutcomeCounts, &out.Days[i].OutcomeCounts} {
			switch c.Outcome {
			case models.OutcomeAllow:
				to.Allow += c.Count
			case models.OutcomeDeny:
				to.Deny += c.Count
			case models.OutcomeError:
				to.Error += c.Count
			}
		}
		if c.Reason != "" {
			out.Reasons[string(c.Reason)] += c.Count
		}
	}
	return out, nil
}

// coverage says how much of the time since then the log has taken down.
func (s *Service) coverage(ctx context.Context, since time.Time) (api.LogCoverage, error) {
	days, err := s.decided.LoggedDays(ctx, since)
	if err != nil {
		return api.LogCoverage{}, err
	}
	out := api.LogCoverage{Since: since, Until: s.now().UTC()}
	for _, d := range days {
		out.Recorded += d.Recorded
		out.Lost += d.Dropped
	}
	// A day without decisions is no day without a log, once that has begun.
	if out.From, err = s.decided.FirstLoggedDay(ctx); err != nil {
		return api.LogCoverage{}, err
	}
	if out.From != nil && out.From.Before(since) {
		out.From = &since
	}
	return out, nil
}

// Refusals lists what was counted of refusals without a token that verifies, the
// latest minute first.
func (s *Service) Refusals(ctx context.Context, f store.RefusalFilter, page store.Page) ([]models.CountedRefusals, string, error) {
	if s.decided == nil {
		return nil, "", ErrNoDecisionLog
	}
	return s.decided.Refusals(ctx, f, page)
}

// DecisionLog says how far back the decision log reaches.
func (s *Service) DecisionLog(ctx context.Context) (api.DecisionLog, error) {
	if s.decided == nil {
		return api.DecisionLog{}, ErrNoDecisionLog
	}
	reach, err := s.decided.Reach(ctx)
	if err != nil {
		return api.DecisionLog{}, err
	}
	class := func(c models.LogClass) api.LogClass {
		return api.LogClass{Rows: c.Rows, CompleteSince: c.Since(), CutShort: c.CutShort(s.now(), s.cfg.LogRetention)}
	}
	out := api.DecisionLog{
		RetentionSeconds: int64(s.cfg.LogRetention / time.Second), MaxRows: s.cfg.LogMaxRows,
		Verified: class(reach.Verified), Refused: class(reach.Refused), BusiestToken: reach.Busiest, BusiestRows: reach.BusiestRows,
	}
	if !reach.At.IsZero() {
		out.CountedAt = &reach.At
	}
	return out, nil
}
