package server

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/request"
)

// getHealth says that the process lives. It asks nothing of anybody.
func (s *Server) getHealth(c *gin.Context, _ models.Principal) error {
	request.WriteJSON(c.Writer, http.StatusOK, api.Health{Status: "ok"})
	return nil
}

// readyTimeout bounds the look at the database: a probe wants an answer.
const readyTimeout = 2 * time.Second

// getReady says whether requests should be sent here. It names what is not ready,
// and leaves the cause to the log, unless the files of the database are at fault, which no waiting mends. What `exclude` names is not looked at: a proxy
// that goes elsewhere, or lets everything pass, where the database is slow must not
// follow the database. Where decisions go on and no token can be revoked, since the
// database cannot be written, revocations alone are not ready.
func (s *Server) getReady(c *gin.Context, _ models.Principal) error {
	ctx, cancel := context.WithTimeout(c.Request.Context(), readyTimeout)
	defer cancel()
	checks := map[string]func(context.Context) error{
		"database":    s.store.Ping,
		"revocations": s.store.Writable,
		"decisions":   func(context.Context) error { return s.authz.Ready() },
		"serving":     func(context.Context) error { return s.draining() },
	}
	excluded := c.QueryArray("exclude")
	for _, name := range excluded {
		if checks[name] == nil {
			var v models.Invalid
			v.Add("exclude", "must be database, revocations, decisions or serving, and each once")
			return v.Err()
		}
		delete(checks, name)
	}
	if slices.Contains(excluded, "database") { // which they are a matter of
		delete(checks, "revocations")
	}
	out, status := api.Health{Status: "ok", Checks: map[string]string{}}, http.StatusOK
	for name, check := range checks {
		out.Checks[name] = "ok"
		if err := check(ctx); err != nil {
			out.Checks[name], out.Status, status = "failed", "failed", http.StatusServiceUnavailable
			if cause := s.causeOf(name, err); cause != "" {
				if out.Causes == nil {
					out.Causes = map[string]string{}
				}
				out.Causes[name] = cause
			}
			s.log.WarnContext(ctx, "not ready", "check", name, "error", err, "request_id", request.ID(ctx))
		}
	}
	request.WriteJSON(c.Writer, status, out)
	return nil
}

// causeOf returns why a check failed if an operator must do something about it, in words
// for anybody.
func (s *Server) causeOf(check string, err error) string {
	switch check {
	case "database":
		return s.store.Trouble()
	case "revocations":
		if e, ok := errors.AsType[*models.Error](err); ok {
			return e.Message
		}
	}
	return ""
}
