package engine

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// RouteInfo is an entry of data.patrol.routes.
type RouteInfo struct {
	Method     string      `json:"method"`
	Path       string      `json:"path"` // with * and **
	EntityType string      `json:"entity_type"`
	Operation  string      `json:"operation"`
	Entity     RouteEntity `json:"entity"`
	// Also are the further questions of the route.
	Also []RouteQuestion `json:"also,omitempty"`
	// Absent and Unread are patterns of fields that a body must not have, and that it may
	// have in spite of data.patrol.choosers.
	Absent    []string `json:"absent,omitempty"`
	Unread    []string `json:"unread,omitempty"`
	WebSocket bool     `json:"websocket,omitempty"`
}

// RouteQuestion is a question that a route asks beside its own.
type RouteQuestion struct {
	EntityType string      `json:"entity_type"`
	Operation  string      `json:"operation"`
	Entity     RouteEntity `json:"entity"`
	// When are fields of the body of which it must have one for the question to be asked;
	// nil: it is asked if the entity is named.
	When []string `json:"when,omitempty"`
}

// RouteEntity says where a route finds its entity: in one of these places. The zero
// value stands for the collection.
type RouteEntity struct {
	Name      string   `json:"name,omitempty"`      // always this one
	Path      int      `json:"path,omitempty"`      // what this star of the path stands for, counted from 1
	Query     string   `json:"query,omitempty"`     // this parameter
	JSON      []string `json:"json,omitempty"`      // these keys of the body
	Each      []string `json:"each,omitempty"`      // these keys of the body, which hold several
	Multipart []string `json:"multipart,omitempty"` // these parts of the body
}

// UnmarshalJSON reads the forms that policies write.
func (e *RouteEntity) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &e.Name)
	}
	type plain RouteEntity
	return json.Unmarshal(b, (*plain)(e))
}

// RoutesOf lists the routes in data by path and method. They fit their schema.
func RoutesOf(data map[string]any) ([]RouteInfo, error) {
	inRoot, _ := data[Root].(map[string]any)
	content, err := json.Marshal(inRoot["routes"])
	if err != nil {
		return nil, fmt.Errorf("read the routes: %w", err)
	}
	var byPattern map[string]RouteInfo
	if err := json.Unmarshal(content, &byPattern); err != nil {
		return nil, fmt.Errorf("read the routes: %w", err)
	}
	list := make([]RouteInfo, 0, len(byPattern))
	for pattern, r := range byPattern {
		r.Method, r.Path, _ = strings.Cut(pattern, " ")
		for i := range r.Also {
			r.Also[i].EntityType = cmp.Or(r.Also[i].EntityType, r.EntityType)
		}
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b RouteInfo) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Method, b.Method))
	})
	return list, nil
}
