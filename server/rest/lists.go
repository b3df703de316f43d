package rest

import (
	"net/http"
	"net/url"
	"strconv"

	"github.com/gin-gonic/gin"

	"patrol/api"
	"patrol/models"
	"patrol/server/endpoint"
	"patrol/server/manage"
	"patrol/server/request"
)

// readPage reads `limit` and `after`, adding to v what is wrong with the first.
// The store judges cursors.
func readPage(query url.Values, v *models.Invalid) manage.Page {
	page := manage.Page{Limit: endpoint.DefaultPage, After: query.Get("after")}
	if query.Has("limit") {
		n, err := strconv.Atoi(query.Get("limit"))
		if err != nil || n < 1 || n > manage.MaxPage {
			v.Add("limit", "must be a whole number from 1 to %d", manage.MaxPage)
		}
		page.Limit = n
	}
	return page
}

// writePage answers with one page of a list.
func writePage[M, W any](c *gin.Context, items []M, next string, wire func(M) W) {
	out := api.Page[W]{Items: make([]W, len(items))}
	for i, item := range items {
		out.Items[i] = wire(item)
	}
	if next != "" {
		out.Next = &next
	}
	request.WriteJSON(c.Writer, http.StatusOK, out)
}
