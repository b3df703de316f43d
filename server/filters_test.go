package server_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"patrol/api"
	"patrol/internal/testenv"
	"patrol/models"
)

// TestFilters has the filters of lists, which are called the same everywhere. What a filter was
// called before, or what only looks like one, never lists everything.
func TestFilters(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, dbURL string) {
		w := newWorld(t, dbURL, nil)
		w.as("root").send("PATCH", "/api/v1/users/"+w.users["eve"].ID, `{"disabled":true}`).is(200)
		w.as("root").send("PATCH", "/api/v1/domains/beta", `{"status":"frozen"}`).is(200)
		one, two := w.pat("ann", "one", "acme:models:*:read"), w.pat("dom", "two", "acme:models:*:read")
		ann := w.users["ann"].ID
		for _, tc := range []struct {
			list, query string
			want        []string // names, ids or addresses; nil: 422
			says        string
		}{
			{"users", "email=ANN@", []string{"ann@example.com"}, ""},
			{"users", "email=_nn", []string{}, ""},
			{"users", "name=o&status=enabled", []string{"dom@example.com", "pol@example.com", "root@example.com"}, ""},
			{"users", "status=disabled", []string{"eve@example.com"}, ""},
			{"users", "status=gone", nil, "must be one of"},
			{"users", "email=%00", []string{}, ""},
			{"domains", "name=CM", []string{"acme"}, ""},
			{"domains", "status=frozen", []string{"beta"}, ""},
			{"domains", "status=alive", nil, "must be one of"},
			{"domains/acme/members", "email=dom", []string{"dom@example.com"}, ""},
			{"domains/acme/members", "user_id=" + ann, []string{"ann@example.com"}, ""},
			{"domains/acme/members", "user=" + ann, nil, "is called user_id"},
			{"domains/acme/pats", "user_id=" + ann, []string{one.ID}, ""},
			{"domains/acme/pats", "owner=ann", nil, "is called email"},
			{"admin/pats", "email=dom@", []string{two.ID}, ""},
			{"admin/pats", "user_id=" + ann, []string{one.ID}, ""},
			{"admin/pats", "user=" + ann, nil, "is called user_id"},
			{"admin/pats", "owner=ann", nil, "is called email"},
			{"admin/advice", "owner=ann", nil, "is called email"},
			{"decisions", "user=" + ann, nil, "is called user_id"},
			{"decisions", "token=" + one.ID, nil, "is called token_id"},
			{"decisions", "user_id=nobody", []string{}, ""},
			{"pats", "token=x", nil, "is not a parameter"},
			{"users", "Email=ann", nil, "is not a parameter"},
			{"users", "email=a&email=b", nil, "more than once"},
			{"users", "email=", nil, "has no value"},
		} {
			t.Run(tc.list+"?"+tc.query, func(t *testing.T) {
				a := w.as("root").get("/api/v1/" + tc.list + "?" + tc.query)
				a.t = t
				if tc.want == nil {
					p := a.problem(422, models.CodeInvalid)
					assert.Contains(t, p.Errors[0].Message, tc.says)
					return
				}
				var page api.Page[map[string]any]
				a.is(200).into(&page)
				got := []string{}
				for _, item := range page.Items {
					name := item["id"]
					if email, ok := item["email"]; ok && tc.list != "admin/pats" && tc.list != "domains/acme/pats" {
						name = email
					}
					got = append(got, name.(string))
				}
				assert.Equal(t, tc.want, got)
			})
		}
		w.as("root").get("/api/v1/users?email=%zz").is(400)
	})
}
