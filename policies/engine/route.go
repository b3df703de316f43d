package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/models"
)

// Route asks the policy what a proxied request stands for. Domain is "" if the
// path does not name one. ok is false if no route maps the request, or if what
// was found in it cannot be a field of a request, such as a model id with blanks.
// A document that is not shaped as it must be is an error, as is everything that
// is one with [Snapshot.Decide].
func (s *Snapshot) Route(ctx context.Context, r models.HTTPRequest) (req models.Request, ok bool, err error) {
	if req, ok, known := s.RecallRoute(r); known {
		return req, ok, nil
	}
	if req, ok, err = s.route(ctx, r); err == nil {
		s.routes.put(r, routed{req, ok})
	}
	return req, ok, err
}

// RecallRoute returns what [Snapshot.Route] would if that is known without asking
// the policy, which takes no time worth mentioning.
func (s *Snapshot) RecallRoute(r models.HTTPRequest) (req models.Request, ok, known bool) {
	found, known := s.routes.get(r)
	return found.req, found.ok, known
}

// routed is what a proxied request stands for, if anything.
type routed struct {
	req models.Request
	ok  bool
}

func (s *Snapshot) route(ctx context.Context, r models.HTTPRequest) (req models.Request, ok bool, err error) {
	v, err := s.eval(ctx, s.request, routeInput(r))
	switch {
	case errors.Is(err, errUndefined):
		return models.Request{}, false, nil
	case err != nil:
		return models.Request{}, false, err
	}
	if req, err = readRequest(v); err != nil {
		return models.Request{}, false, fmt.Errorf("%s is malformed: %w", requestRef, err)
	}
	probe := req
	if probe.Domain == "" {
		probe.Domain = models.Any // a stand-in: the caller knows the domain
	}
	if invalid := probe.Validate(); invalid != nil {
		return models.Request{}, false, nil //nolint:nilerr // a request that cannot be is one that no route maps
	}
	return req, true, nil
}

// readRequest reads {"domain", "entity_type", "entity", "operation"}, all of them
// strings.
func readRequest(v ast.Value) (req models.Request, err error) {
	obj, ok := v.(ast.Object)
	if !ok || obj.Len() != 4 {
		return req, errors.New("it is not an object of domain, entity_type, entity and operation")
	}
	for _, f := range [...]struct {
		key *ast.Term
		to  *string
	}{{key.domain, &req.Domain}, {key.entityType, &req.EntityType}, {key.entity, &req.Entity}, {key.operation, &req.Operation}} {
		t := obj.Get(f.key)
		if t == nil {
			return req, fmt.Errorf("it has no %v", f.key)
		}
		s, ok := t.Value.(ast.String)
		if !ok {
			return req, fmt.Errorf("%v is not a string", f.key)
		}
		*f.to = string(s)
	}
	return req, nil
}

// BodyNeed asks the policy, before the body is read, what [Snapshot.Route] will
// need of it; need is nil if nothing. upgrade says whether the client may turn the
// connection into a WebSocket. Both come from the optional document
// data.patrol.http.hints, so that a request which no route maps needs nothing.
// need is shared: callers must not change it.
func (s *Snapshot) BodyNeed(ctx context.Context, r models.HTTPRequest) (need *models.BodyNeed, upgrade bool, err error) {
	if need, upgrade, known := s.RecallBodyNeed(r); known {
		return need, upgrade, nil
	}
	if need, upgrade, err = s.bodyNeed(ctx, r); err == nil {
		s.needs.put(r, hinted{need, upgrade})
	}
	return need, upgrade, err
}

// RecallBodyNeed returns what [Snapshot.BodyNeed] would if that is known without
// asking the policy.
func (s *Snapshot) RecallBodyNeed(r models.HTTPRequest) (need *models.BodyNeed, upgrade, known bool) {
	found, known := s.needs.get(r)
	return found.need, found.upgrade, known
}

// hinted is what must be known before a proxied request is judged.
type hinted struct {
	need    *models.BodyNeed
	upgrade bool
}

func (s *Snapshot) bodyNeed(ctx context.Context, r models.HTTPRequest) (need *models.BodyNeed, upgrade bool, err error) {
	v, err := s.eval(ctx, s.hints, routeInput(r))
	switch {
	case errors.Is(err, errUndefined):
		return nil, false, nil
	case err != nil:
		return nil, false, err
	}
	if need, upgrade, err = readHints(v); err != nil {
		return nil, false, fmt.Errorf("%s is malformed: %w", hintsRef, err)
	}
	return need, upgrade, nil
}

// readHints reads {"body"?: {"format", "fields"}, "websocket"?} and nothing else.
func readHints(v ast.Value) (need *models.BodyNeed, upgrade bool, err error) {
	obj, ok := v.(ast.Object)
	if !ok {
		return nil, false, errors.New("it is not an object")
	}
	err = obj.Iter(func(k, x *ast.Term) (err error) {
		field, _ := k.Value.(ast.String)
		switch field {
		case "body":
			need, err = readBodyNeed(x.Value)
			return err
		case "websocket":
			b, ok := x.Value.(ast.Boolean)
			if !ok {
				return errors.New("websocket is not true or false")
			}
			upgrade = bool(b)
			return nil
		default:
			return fmt.Errorf("it has a field %v that hints do not have", k)
		}
	})
	return need, upgrade, err
}

func readBodyNeed(v ast.Value) (*models.BodyNeed, error) {
	obj, ok := v.(ast.Object)
	if !ok || obj.Len() != 2 {
		return nil, errors.New("body is not an object of format and fields")
	}
	format, err := readString("body.format", obj.Get(key.format))
	if err != nil {
		return nil, err
	}
	need := &models.BodyNeed{Format: models.BodyFormat(format)}
	if need.Format != models.BodyJSON && need.Format != models.BodyMultipart {
		return nil, fmt.Errorf("body.format is %.40q, neither json nor multipart", format)
	}
	var fields *ast.Array
	if t := obj.Get(key.fields); t != nil {
		fields, _ = t.Value.(*ast.Array)
	}
	if fields == nil || fields.Len() == 0 {
		return nil, errors.New("body.fields is not an array of names")
	}
	for i := range fields.Len() {
		name, err := readString("a name in body.fields", fields.Elem(i))
		if err != nil {
			return nil, err
		}
		need.Fields = append(need.Fields, name)
	}
	return need, nil
}

// routeInput builds `input` for the documents about proxied requests.
func routeInput(r models.HTTPRequest) *ast.Term {
	query := ast.NewObjectWithCapacity(len(r.Query))
	for name, values := range r.Query {
		query.Insert(ast.StringTerm(name), stringArray(values))
	}
	headers := ast.NewObject()
	if r.Headers != nil {
		for name, value := range r.Headers() {
			headers.Insert(ast.StringTerm(name), ast.StringTerm(value))
		}
	}
	h := ast.NewObject(
		ast.Item(key.method, ast.StringTerm(r.Method)),
		ast.Item(key.path, ast.StringTerm(r.Path)),
		ast.Item(key.segments, stringArray(r.Segments)),
		ast.Item(key.query, ast.NewTerm(query)),
		ast.Item(key.headers, ast.NewTerm(headers)),
	)
	if r.Body != nil {
		body := ast.NewObjectWithCapacity(1)
		if r.Body.Model != "" {
			body.Insert(key.model, ast.StringTerm(r.Body.Model))
		}
		h.Insert(key.body, ast.NewTerm(body))
	}
	return ast.ObjectTerm(ast.Item(key.http, ast.NewTerm(h)))
}

func stringArray(values []string) *ast.Term {
	terms := make([]*ast.Term, len(values))
	for i, v := range values {
		terms[i] = ast.StringTerm(v)
	}
	return ast.ArrayTerm(terms...)
}
