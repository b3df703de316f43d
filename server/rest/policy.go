package rest

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/request"
)

// policyRoutes are for the policy team, and for those who run its policy.
func (s *Surface) policyRoutes() []endpoint.Route {
	return []endpoint.Route{
		{Method: "GET", Path: "/api/v1/policy", By: endpoint.PolicyTeam, SignIn: endpoint.AnyAgeToRead, Do: s.getPolicy},
		{Method: "GET", Path: "/api/v1/policy/history", By: endpoint.PolicyTeam, SignIn: endpoint.AnyAgeToRead, Do: s.getPolicyHistory},
		{Method: "POST", Path: "/api/v1/policy/rollback", By: endpoint.PolicyTeam, SignIn: endpoint.FreshAdmin, Do: s.postPolicyRollback, Accepts: endpoint.Accepts{Body: endpoint.Object}},
		{Method: "POST", Path: "/api/v1/policy/resume", By: endpoint.PolicyTeam, SignIn: endpoint.FreshAdmin, Do: s.postPolicyResume},
		{Method: "GET", Path: "/api/v1/policy/bundle", By: endpoint.BundleReader, SignIn: endpoint.AnyAgeToRead, Do: s.getPolicyBundle, Quiet: true},
	}
}

func (s *Surface) getPolicy(c *gin.Context, _ models.Principal) error {
	out, err := s.manage.Policy(c.Request.Context())
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, out)
	return nil
}

func (s *Surface) getPolicyHistory(c *gin.Context, _ models.Principal) error {
	out, err := s.manage.PolicyHistory(c.Request.Context())
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, out)
	return nil
}

func (s *Surface) postPolicyRollback(c *gin.Context, p models.Principal) error {
	var in api.PolicyRollback
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	out, err := s.manage.RollBackPolicy(c.Request.Context(), p, in)
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, out)
	return nil
}

func (s *Surface) postPolicyResume(c *gin.Context, p models.Principal) error {
	out, err := s.manage.ResumePolicy(c.Request.Context(), p)
	if err != nil {
		return err
	}
	request.WriteJSON(c.Writer, http.StatusOK, out)
	return nil
}

const (
	// longestWait bounds the time for which a request for the bundle is held back.
	longestWait = 5 * time.Minute
	// MaxWaiting bounds the requests that are. Others are answered at once.
	MaxWaiting = 256
	// bundleType tells clients that long polling is known here, as OPA has it.
	bundleType = "application/vnd.openpolicyagent.bundles"
)

// getPolicyBundle serves the bundle in force as bundle servers do: ETag and
// If-None-Match, and long polling for those who prefer to wait.
func (s *Surface) getPolicyBundle(c *gin.Context, _ models.Principal) error {
	archive, digest, changed := s.manage.PolicyArchive()
	if holds(c.Request.Header.Values("If-None-Match"), digest) {
		s.waitForPolicy(c, changed, preferredWait(c.Request.Header.Values("Prefer")))
		archive, digest, _ = s.manage.PolicyArchive()
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
func (s *Surface) waitForPolicy(c *gin.Context, changed <-chan struct{}, wait time.Duration) {
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
