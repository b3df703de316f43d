package gateway

import (
	"context"

	"patrol/models"
	"patrol/server/authz"
	"patrol/server/route"
)

// respell puts the names of models in the request into the spelling in which every
// reader at the upstream takes them for what is judged, and nothing else of it: in the
// body, else in the path, else in the query. What comes of it is read and mapped again,
// so that it is judged itself. A name that is found nowhere stays as it is; if the
// upstream could read another in it, the request is refused when it is judged.
func (x *exchange) respell(ctx context.Context, need *models.BodyNeed) error {
	fixed := models.Request{Domain: x.domain}
	names := x.p.Names(ctx, x.judged, fixed)
	if len(names) == 0 {
		return nil
	}
	if x.judged.Body != nil {
		if err := x.respellBody(need, names); err != nil {
			return err
		}
		names = x.p.Names(ctx, x.judged, fixed)
	}
	const domain = 2 // segments of the path that are Patrol's
	for _, n := range names {
		if r, ok := route.RespellPath(x.judged, domain, n.Spelled, n.Forward); ok {
			x.judged = r
		} else if r, ok := route.RespellQuery(x.judged, n.Spelled, n.Forward); ok {
			x.judged = r
		}
	}
	return nil
}

func (x *exchange) respellBody(need *models.BodyNeed, names []authz.Name) error {
	spellings := make(map[string]string, len(names))
	for _, n := range names {
		spellings[n.Spelled] = n.Forward
	}
	content := x.kept.reader()
	edits, err := route.RespellBody(need, content, x.r.Header, spellings)
	_ = content.Close() // it only counts
	if err != nil || len(edits) == 0 {
		return err
	}
	x.kept.edit(edits)
	return x.scan(need)
}
