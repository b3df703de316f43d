package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"patrol/models"
)

// MaxQuestions bounds the questions that a proxied request may ask.
const MaxQuestions = 32

// Route asks the policy what a proxied request stands for: the questions that must all
// be answered with yes before it may pass, at least one, none of them twice. Domain is ""
// if the path does not name one. ok is false if no route maps the request, or if what
// was found in it cannot be a field of a request, such as a model id with blanks.
// A document that is not shaped as it must be is an error, as is everything that
// is one with [Snapshot.Decide].
//
// The questions are those of data.patrol.http.requests. In a bundle that does not define
// it, data.patrol.http.request is the one question. They are shared: callers must not
// change them.
func (s *Snapshot) Route(ctx context.Context, r models.HTTPRequest) (reqs []models.Request, ok bool, err error) {
	if reqs, ok, known := s.RecallRoute(r); known {
		return reqs, ok, nil
	}
	if reqs, ok, err = s.AskRoute(ctx, r); err == nil {
		s.routes.put(r, routed{reqs, ok})
	}
	return reqs, ok, err
}

// RecallRoute returns what [Snapshot.Route] would if that is known without asking
// the policy, which takes no time worth mentioning.
func (s *Snapshot) RecallRoute(r models.HTTPRequest) (reqs []models.Request, ok, known bool) {
	found, known := s.routes.get(r)
	return found.reqs, found.ok, known
}

// routed is the meaning of a proxied request, if it has one.
type routed struct {
	reqs []models.Request
	ok   bool
}

// AskRoute is [Snapshot.Route] without what is remembered.
func (s *Snapshot) AskRoute(ctx context.Context, r models.HTTPRequest) (reqs []models.Request, ok bool, err error) {
	reqs, err = s.ask(ctx, routeInput(r))
	switch {
	case errors.Is(err, errUndefined):
		return nil, false, nil
	case err != nil:
		return nil, false, err
	}
	for _, req := range reqs {
		if req.Domain == "" {
			req.Domain = models.Any // a stand-in: the caller knows the domain
		}
		if invalid := req.Validate(); invalid != nil {
			return nil, false, nil //nolint:nilerr // a request that cannot be is one that no route maps
		}
	}
	return reqs, true, nil
}

// ask evaluates the document that says what a proxied request stands for, and reads it.
func (s *Snapshot) ask(ctx context.Context, input *ast.Term) ([]models.Request, error) {
	v, err := s.eval(ctx, s.request, input)
	if err != nil {
		return nil, err
	}
	reqs, err := readRequests(v, s.several())
	if err != nil {
		return nil, fmt.Errorf("%s is malformed: %w", s.request.ref, err)
	}
	return reqs, nil
}

// several reports whether the policy says itself that a request asks several questions.
func (s *Snapshot) several() bool { return s.request.ref.Equal(RequestsRef) }

// readRequests reads the questions, and drops those that are there already.
func readRequests(v ast.Value, several bool) ([]models.Request, error) {
	if !several {
		req, err := readRequest(v)
		if err != nil {
			return nil, err
		}
		return []models.Request{req}, nil
	}
	list, ok := v.(*ast.Array)
	if !ok {
		return nil, fmt.Errorf("it is %s, not an array", ast.ValueName(v))
	}
	if n := list.Len(); n == 0 || n > MaxQuestions {
		return nil, fmt.Errorf("it has %d requests, not 1 to %d", n, MaxQuestions)
	}
	reqs := make([]models.Request, 0, list.Len())
	for i := range list.Len() {
		req, err := readRequest(list.Elem(i).Value)
		if err != nil {
			return nil, fmt.Errorf("request %d: %w", i, err)
		}
		if !slices.ContainsFunc(reqs, req.Same) {
			reqs = append(reqs, req)
		}
	}
	return reqs, nil
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
	if need, upgrade, err = s.AskBodyNeed(ctx, r); err == nil {
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

// hinted holds what must be known before a proxied request is judged.
type hinted struct {
	need    *models.BodyNeed
	upgrade bool
}

// AskBodyNeed is [Snapshot.BodyNeed] without what is remembered.
func (s *Snapshot) AskBodyNeed(ctx context.Context, r models.HTTPRequest) (need *models.BodyNeed, upgrade bool, err error) {
	v, err := s.eval(ctx, s.hints, routeInput(r))
	switch {
	case errors.Is(err, errUndefined):
		return nil, false, nil
	case err != nil:
		return nil, false, err
	}
	if need, upgrade, err = readHints(v); err != nil {
		return nil, false, fmt.Errorf("%s is malformed: %w", HintsRef, err)
	}
	if need != nil {
		need.Agree = !s.several() // or nothing would tell that they do not
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

// readBodyNeed reads {"format", "fields"?, "each"?, "absent"?} and nothing else.
func readBodyNeed(v ast.Value) (*models.BodyNeed, error) {
	obj, ok := v.(ast.Object)
	if !ok {
		return nil, errors.New("body is not an object of format, fields, each and absent")
	}
	format, err := readString("body.format", obj.Get(key.format))
	if err != nil {
		return nil, err
	}
	need := &models.BodyNeed{Format: models.BodyFormat(format)}
	if need.Format != models.BodyJSON && need.Format != models.BodyMultipart {
		return nil, fmt.Errorf("body.format is %.40q, neither json nor multipart", format)
	}
	known := 1
	for _, list := range [...]struct {
		key  *ast.Term
		name string
		to   *[]string
	}{{key.fields, "fields", &need.Fields}, {key.each, "each", &need.Each}, {key.absent, "absent", &need.Absent}} {
		t := obj.Get(list.key)
		if t == nil {
			continue
		}
		known++
		if *list.to, err = readNames("body."+list.name, t.Value); err != nil {
			return nil, err
		}
	}
	switch {
	case obj.Len() != known:
		return nil, fmt.Errorf("body has other fields than format, fields, each and absent: %v", obj.Keys())
	case len(need.Fields)+len(need.Each)+len(need.Absent) == 0:
		return nil, errors.New("body.fields is not an array of names")
	case len(need.Each) > 0 && need.Format != models.BodyJSON:
		return nil, errors.New("body.each is for json")
	}
	return need.Compiled(), nil
}

// readNames reads an array of names, and drops those that are there already.
func readNames(what string, v ast.Value) (names []string, err error) {
	list, ok := v.(*ast.Array)
	if !ok || list.Len() == 0 {
		return nil, fmt.Errorf("%s is not an array of names", what)
	}
	for i := range list.Len() {
		name, err := readString("a name in "+what, list.Elem(i))
		if err != nil {
			return nil, err
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
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
		h.Insert(key.body, bodyInput(r.Body))
	}
	return ast.ObjectTerm(ast.Item(key.http, ast.NewTerm(h)))
}

// bodyInput is `input.http.body`: the declared fields under their own names, and as
// `model` the one name that they give, whatever it is called in the body.
func bodyInput(b *models.HTTPBody) *ast.Term {
	body := ast.NewObjectWithCapacity(len(b.Fields) + 1)
	if model := b.Model(); model != "" {
		body.Insert(key.model, ast.StringTerm(model))
	}
	for _, f := range b.Fields {
		if f.List {
			body.Insert(ast.StringTerm(f.Name), stringArray(f.Values))
		} else {
			body.Insert(ast.StringTerm(f.Name), ast.StringTerm(f.Value))
		}
	}
	return ast.NewTerm(body)
}

func stringArray(values []string) *ast.Term {
	terms := make([]*ast.Term, len(values))
	for i, v := range values {
		terms[i] = ast.StringTerm(v)
	}
	return ast.ArrayTerm(terms...)
}
