package rest

import (
	"net/http"
	"net/url"
	"time"

	"github.com/gin-gonic/gin"

	"patrol/models"
	"patrol/server/manage"
)

// readWait reads whether the caller waits for all servers.
func readWait(query url.Values) (bool, error) {
	switch {
	case !query.Has("wait"):
		return false, nil
	case query.Get("wait") == "all":
		return true, nil
	}
	var v models.Invalid
	v.Add("wait", "must be all, or left out")
	return false, v.Err()
}

// extendWrite gives the answer to a request more time than the timeouts of API requests.
func (s *Surface) extendWrite(c *gin.Context) manage.Extend {
	return func(until time.Time) {
		_ = http.NewResponseController(c.Writer).SetWriteDeadline(until.Add(s.cfg.HTTP.WriteTimeout))
	}
}
