package rest

import (
	"context"
	"encoding/csv"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/reach"
	"patrol/server/request"
)

func reachFilter(c *gin.Context) reach.Filter {
	query := c.Request.URL.Query()
	return reach.Filter{Domain: query.Get("domain"), EntityType: query.Get("entity_type"), After: query.Get("after")}
}

func writeReach(c *gin.Context, cells []api.ReachCell, next string, err error) error {
	if err != nil {
		return err
	}
	out := api.Reach{Cells: cells}
	if next != "" {
		out.Next = &next
	}
	request.WriteJSON(c.Writer, http.StatusOK, out)
	return nil
}

// getReach answers the owner of a token, or a platform admin, what the token can do.
func (s *Surface) getReach(c *gin.Context, p models.Principal) error {
	ctx := c.Request.Context()
	var pat models.PAT
	var err error
	if p.User.Admin {
		owned, found := s.manage.AnyPAT(ctx, c.Param("id"))
		pat, err = owned.PAT, found
	} else {
		pat, err = s.manage.PAT(ctx, p, c.Param("id"))
	}
	if err != nil {
		return err
	}
	cells, next, err := s.reach.OfPAT(ctx, pat, reachFilter(c))
	return writeReach(c, cells, next, err)
}

// postReach answers what a token that is not made yet could do.
func (s *Surface) postReach(c *gin.Context, p models.Principal) error {
	var in api.ReachDraft
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	scopes, lifetime, err := s.manage.ReadDraft(in)
	if err != nil {
		return err
	}
	cells, next, err := s.reach.OfDraft(c.Request.Context(), p.User, scopes, s.now().Add(lifetime), reachFilter(c))
	return writeReach(c, cells, next, err)
}

// getUserReach answers what a user could have a token do.
func (s *Surface) getUserReach(c *gin.Context, _ models.Principal) error {
	u, err := s.manage.User(c.Request.Context(), c.Param("id"))
	if err != nil {
		return err
	}
	cells, next, err := s.reach.OfUser(c.Request.Context(), u, reachFilter(c))
	return writeReach(c, cells, next, err)
}

// postWhoCan answers the policy team and platform admins, and the admins of the domain, who could
// have a token do something.
func (s *Surface) postWhoCan(c *gin.Context, p models.Principal) error {
	ctx := c.Request.Context()
	var in api.WhoCan
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	var v models.Invalid
	req := models.Request{Domain: in.Domain, EntityType: in.EntityType, Entity: in.Entity, Operation: in.Operation}
	req.ValidateAt("", &v)
	page := readPage(c.Request.URL.Query(), &v)
	if err := v.Err(); err != nil {
		return err
	}
	if err := s.mayAskWho(ctx, p, req.Domain); err != nil {
		return err
	}
	found, next, err := s.reach.WhoCan(ctx, req, page)
	if err != nil {
		return err
	}
	if strings.Contains(c.Request.Header.Get("Accept"), "text/csv") {
		return writeAbleCSV(c, found, next)
	}
	writePage(c, found, next, func(a api.Able) api.Able { return a })
	return nil
}

func (s *Surface) mayAskWho(ctx context.Context, p models.Principal, domain string) error {
	if p.User.Admin || p.User.Policy {
		return nil
	}
	return s.manage.MayAdminister(ctx, p, domain)
}

// nextHeader has the cursor of the next page where the body has no room for it.
const nextHeader = "Patrol-Next"

// writeAbleCSV answers with a table, a row for each person and token.
func writeAbleCSV(c *gin.Context, found []api.Able, next string) error {
	if next != "" {
		c.Header(nextHeader, next)
	}
	c.Header("Content-Type", "text/csv; charset=utf-8")
	c.Header("Content-Disposition", `attachment; filename="who-can.csv"`)
	w := csv.NewWriter(c.Writer)
	rows := [][]string{{"user_id", "email", "role", "platform_admin", "token_id", "token_name", "expires_at", "last_used_at"}}
	for _, a := range found {
		row := []string{a.UserID, a.Email, "", "", "", "", "", ""}
		if a.Role != nil {
			row[2] = *a.Role
		}
		if a.Admin {
			row[3] = "yes"
		}
		if len(a.Tokens) == 0 {
			rows = append(rows, row)
		}
		for _, t := range a.Tokens {
			of := append([]string{}, row...)
			of[4], of[5], of[6] = t.ID, t.Name, t.ExpiresAt.Format(time.RFC3339)
			if t.LastUsedAt != nil {
				of[7] = t.LastUsedAt.UTC().Format(time.RFC3339)
			}
			rows = append(rows, of)
		}
	}
	for _, row := range rows {
		for i := range row {
			row[i] = safeCell(row[i])
		}
	}
	if err := w.WriteAll(rows); err != nil {
		return nil //nolint:nilerr // the client is gone
	}
	return nil
}

// safeCell keeps a spreadsheet from taking a text for a formula (OWASP, CSV Injection).
func safeCell(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + text
	}
	return text
}
