package server

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/bundles"
	"patrol/models"
	"patrol/models/store"
	"patrol/policies/engine"
	"patrol/server/request"
)

// Policy is what the server needs to know of how the policy comes into force;
// [bundles.Delivery] is one.
type Policy interface {
	Status() bundles.Status
	// Sync puts in force what the database says is.
	Sync(ctx context.Context) error
	// Archive returns the bundle in force, its digest, and what is closed when
	// another is in force.
	Archive() (archive []byte, digest string, changed <-chan struct{})
	// Candidate returns the archive of what the source holds and is not in force; nil
	// if there is none.
	Candidate() []byte
	// Usable reports what would keep this server from putting a revision in force.
	Usable(ctx context.Context, r bundles.Record, archive []byte) error
	// Permit returns a bundle with what this server lets policies waive.
	Permit(src engine.Source) engine.Source
}

// policyRoutes are for the policy team, and for those who run its policy.
var policyRoutes = []route{
	{method: "GET", path: "/api/v1/policy", by: policyTeam, do: (*Server).getPolicy},
	{method: "GET", path: "/api/v1/policy/history", by: policyTeam, do: (*Server).getPolicyHistory},
	{method: "POST", path: "/api/v1/policy/rollback", by: policyTeam, do: (*Server).postPolicyRollback, accepts: accepts{body: object}},
	{method: "POST", path: "/api/v1/policy/resume", by: policyTeam, do: (*Server).postPolicyResume},
	{method: "GET", path: "/api/v1/policy/bundle", by: bundleReader, do: (*Server).getPolicyBundle, quiet: true},
}

const (
	shownRefusals = 5
	shownEvents   = 100
)

// Policy returns the policy in force and how it is doing.
func (s *Server) Policy(ctx context.Context) (api.Policy, error) {
	status := s.policy.Status()
	out := api.Policy{
		Revision: status.Active.Revision, Digest: status.Active.Digest, Source: status.Active.Source,
		Since: status.Active.Since.UTC(), Pinned: status.Active.Pinned, Promoted: status.Active.Promoted, SyncError: status.SyncError,
		SourceStatus: wirePolicySource(status.Source), Refusals: []api.PolicyEvent{},
	}
	out.Departures, out.Breaches = s.departures()
	kept, err := s.store.PolicyRevisions(ctx)
	if err != nil {
		return api.Policy{}, err
	}
	for _, r := range kept {
		if r.Digest == out.Digest {
			out.SignedBy, out.Result = r.SignedBy, policyResult(r.Result)
		}
	}
	refused, err := s.store.PolicyEvents(ctx, store.PolicyRefused, shownRefusals)
	if err != nil {
		return api.Policy{}, err
	}
	for _, e := range refused {
		out.Refusals = append(out.Refusals, wirePolicyEvent(e))
	}
	return out, nil
}

// departures are what the policy that decides here allows in spite of a reason to deny, and
// what it allowed that no policy may allow.
func (s *Server) departures() (out api.PolicyDepartures, breaches []api.PolicyBreach) {
	policy := s.engine.Current()
	d := policy.Departures()
	out = api.PolicyDepartures{Waives: d.Waives}
	for _, r := range d.Exceptions {
		out.Exceptions = append(out.Exceptions, api.PolicyRule(r))
	}
	for _, r := range d.Labels {
		out.Labels = append(out.Labels, api.PolicyRule(r))
	}
	breaches = []api.PolicyBreach{}
	counts := policy.Breaches()
	for _, code := range slices.Sorted(maps.Keys(counts)) {
		breaches = append(breaches, api.PolicyBreach{Code: code, Count: counts[code]})
	}
	return out, breaches
}

// PolicyHistory returns what happened to the policy and what can be rolled back to.
func (s *Server) PolicyHistory(ctx context.Context) (api.PolicyHistory, error) {
	out := api.PolicyHistory{Events: []api.PolicyEvent{}, Kept: []api.PolicyRevision{}}
	events, err := s.store.PolicyEvents(ctx, "", shownEvents)
	if err != nil {
		return out, err
	}
	for _, e := range events {
		out.Events = append(out.Events, wirePolicyEvent(e))
	}
	kept, err := s.store.PolicyRevisions(ctx)
	if err != nil {
		return out, err
	}
	active := s.policy.Status().Active.Digest
	for _, r := range kept {
		out.Kept = append(out.Kept, api.PolicyRevision{
			Revision: r.Revision, Digest: r.Digest, Source: r.Source, SignedBy: r.SignedBy, ActivatedAt: r.ActivatedAt,
			Active: r.Digest == active, Result: policyResult(r.Result),
		})
	}
	return out, nil
}

// RollBackPolicy puts a revision in force that was before, and pins it. It is in
// force on this server when it returns; the others follow within a second.
func (s *Server) RollBackPolicy(ctx context.Context, p models.Principal, in api.PolicyRollback) (api.Policy, error) {
	if in.Revision == "" {
		var v models.Invalid
		v.Add("revision", "is required")
		return api.Policy{}, v.Err()
	}
	if _, err := s.store.RollBackPolicy(ctx, p.Actor, in.Revision); err != nil {
		return api.Policy{}, err
	}
	return s.syncedPolicy(ctx)
}

// ResumePolicy lifts the pin of a roll back, and has all servers look again at what
// the policy's source holds.
func (s *Server) ResumePolicy(ctx context.Context, p models.Principal) (api.Policy, error) {
	if _, err := s.store.ResumePolicy(ctx, p.Actor); err != nil {
		return api.Policy{}, err
	}
	return s.syncedPolicy(ctx)
}

func (s *Server) syncedPolicy(ctx context.Context) (api.Policy, error) {
	if err := s.policy.Sync(ctx); err != nil {
		return api.Policy{}, models.WrapError(models.CodeUnavailable, "this is noted, and is not in force on this server yet", err)
	}
	return s.Policy(ctx)
}

func (s *Server) getPolicy(c *gin.Context, _ models.Principal) error {
	out, err := s.Policy(c.Request.Context())
	if err != nil {
		return err
	}
	writeJSON(c.Writer, http.StatusOK, out)
	return nil
}

func (s *Server) getPolicyHistory(c *gin.Context, _ models.Principal) error {
	out, err := s.PolicyHistory(c.Request.Context())
	if err != nil {
		return err
	}
	writeJSON(c.Writer, http.StatusOK, out)
	return nil
}

func (s *Server) postPolicyRollback(c *gin.Context, p models.Principal) error {
	var in api.PolicyRollback
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	out, err := s.RollBackPolicy(c.Request.Context(), p, in)
	if err != nil {
		return err
	}
	writeJSON(c.Writer, http.StatusOK, out)
	return nil
}

func (s *Server) postPolicyResume(c *gin.Context, p models.Principal) error {
	out, err := s.ResumePolicy(c.Request.Context(), p)
	if err != nil {
		return err
	}
	writeJSON(c.Writer, http.StatusOK, out)
	return nil
}

const (
	// longestWait is how long a request for the bundle is held back at most.
	longestWait = 5 * time.Minute
	// mostWaiting is how many are at a time. Others are answered at once.
	mostWaiting = 256
	// bundleType tells clients that long polling is known here, as OPA has it.
	bundleType = "application/vnd.openpolicyagent.bundles"
)

// getPolicyBundle serves the bundle in force as bundle servers do: ETag and
// If-None-Match, and long polling for those who prefer to wait.
func (s *Server) getPolicyBundle(c *gin.Context, _ models.Principal) error {
	archive, digest, changed := s.policy.Archive()
	if holds(c.Request.Header.Values("If-None-Match"), digest) {
		s.waitForPolicy(c, changed, preferredWait(c.Request.Header.Values("Prefer")))
		archive, digest, _ = s.policy.Archive()
	}
	h := c.Writer.Header()
	h.Set("ETag", strconv.Quote(digest))
	h.Set("Content-Type", bundleType)
	h.Set("Cache-Control", "private, no-cache")
	if holds(c.Request.Header.Values("If-None-Match"), digest) {
		c.Status(http.StatusNotModified)
		c.Writer.WriteHeaderNow()
		return nil
	}
	h.Set("Content-Length", strconv.Itoa(len(archive)))
	c.Status(http.StatusOK)
	_, err := c.Writer.Write(archive)
	if err != nil {
		return nil //nolint:nilerr // the client is gone: there is nobody to tell
	}
	return nil
}

// waitForPolicy returns when another policy is in force, or the time is up, or
// either side ends.
func (s *Server) waitForPolicy(c *gin.Context, changed <-chan struct{}, wait time.Duration) {
	if wait <= 0 {
		return
	}
	select {
	case s.pollers <- struct{}{}:
		defer func() { <-s.pollers }()
	default:
		return
	}
	// The timeouts of API requests would cut it. That for reading is for a body that
	// was announced, too, which is read before the answer is sent.
	control := http.NewResponseController(c.Writer)
	_ = control.SetReadDeadline(time.Now().Add(wait + s.cfg.HTTP.ReadTimeout))
	_ = control.SetWriteDeadline(time.Now().Add(wait + s.cfg.HTTP.WriteTimeout))
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-s.ending:
	case <-c.Request.Context().Done():
	}
}

// holds reports whether one of the entity tags in header lines is digest. What is
// compared is the whole archive, so a weak tag is as good.
func holds(lines []string, digest string) bool {
	for _, line := range lines {
		for tag := range strings.SplitSeq(line, ",") {
			tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
			if tag == "*" || tag == strconv.Quote(digest) {
				return true
			}
		}
	}
	return false
}

// preferredWait reads `Prefer: wait=30` (RFC 7240), or what OPA makes of it.
func preferredWait(lines []string) time.Duration {
	for _, line := range lines {
		for part := range strings.FieldsFuncSeq(line, func(r rune) bool { return r == ',' || r == ';' || r == ' ' }) {
			text, ok := strings.CutPrefix(strings.ToLower(part), "wait=")
			if n, err := strconv.ParseUint(text, 10, 31); ok && err == nil {
				return min(time.Duration(n)*time.Second, longestWait)
			}
		}
	}
	return 0
}

// admitBundleReader admits who holds the configured credential, or the policy team.
func (s *Server) admitBundleReader(c *gin.Context) (models.Principal, error) {
	if cred := request.CredentialOf(c.Request.Header); cred.Kind == request.AccessCredential && s.cfg.BundleCredential != "" {
		given, want := sha256.Sum256([]byte(cred.Token)), sha256.Sum256([]byte(s.cfg.BundleCredential))
		if subtle.ConstantTimeCompare(given[:], want[:]) == 1 {
			return models.Principal{}, nil
		}
	}
	p, err := s.admitSession(c)
	if err == nil && !p.User.Admin && !p.User.Policy {
		return models.Principal{}, errPolicyTeamOnly
	}
	return p, err
}

func wirePolicyEvent(e store.PolicyEvent) api.PolicyEvent {
	return api.PolicyEvent{
		ID: e.ID, At: e.At, Kind: string(e.Kind), Actor: e.ByKind, UserID: e.ByUser, Revision: e.Subject.Revision, Digest: e.Subject.Digest,
		Source: e.Subject.Source, SignedBy: e.Subject.SignedBy, Result: policyResult(e.Subject.Result),
	}
}

func wirePolicySource(s bundles.SourceStatus) api.PolicySource {
	out := api.PolicySource{Name: s.Name, Reached: s.Reached, Error: s.Error}
	if !s.CheckedAt.IsZero() {
		out.CheckedAt = new(s.CheckedAt.UTC())
	}
	if p := s.Pending; p != nil {
		out.Pending = &api.PolicyPending{Revision: p.Revision, Digest: p.Digest, Refused: p.Refused}
	}
	return out
}

// policyResult reads what the gate found out. What another version wrote in another
// form is shown as far as it goes.
func policyResult(stored json.RawMessage) (out api.PolicyResult) {
	_ = json.Unmarshal(stored, &out) // it is for show
	return out
}
