package authzen

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"patrol/models"
	"patrol/server/endpoint"
)

// message is a request, of any of the endpoints. Members that the standard does not know are
// ignored (section 10.1.1), and so are those that an endpoint does not read.
type message struct {
	Subject     jsontext.Value `json:"subject"`
	Action      jsontext.Value `json:"action"`
	Resource    jsontext.Value `json:"resource"`
	Context     jsontext.Value `json:"context"`
	Evaluations jsontext.Value `json:"evaluations"`
	Options     jsontext.Value `json:"options"`
	Page        jsontext.Value `json:"page"`
}

// entity is a subject or a resource (sections 5.1 and 5.2).
type entity struct {
	kind, id   string
	properties map[string]any
}

// action is the action of a question (section 5.3).
type action struct {
	name       string
	properties map[string]any
}

// wrong returns an error that names what is missing or of another type: 400, unlike elsewhere
// (section 10.1.2).
func wrong(v *models.Invalid) error {
	err := v.Err()
	if e, ok := errors.AsType[*models.Error](err); ok {
		e.Code = models.CodeMalformed
	}
	return err
}

// readMessage reads the body of a request, of at most limit bytes.
func readMessage(w http.ResponseWriter, r *http.Request, limit int64) (m message, err error) {
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := params["charset"]
	if err != nil || media != "application/json" || charset != "" && !strings.EqualFold(charset, "utf-8") || r.Header.Get("Content-Encoding") != "" {
		return m, models.NewError(models.CodeMalformed, "send the body as application/json in UTF-8, without a Content-Encoding")
	}
	if r.ContentLength > limit {
		return m, endpoint.TooLarge(limit)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if _, over := errors.AsType[*http.MaxBytesError](err); over {
		return m, endpoint.TooLarge(limit)
	}
	if err != nil {
		return m, models.WrapError(models.CodeMalformed, "the request body could not be read to its end", err)
	}
	if jsontext.Value(body).Kind() != jsontext.KindBeginObject {
		return m, models.NewError(models.CodeMalformed, "the request body must be a JSON object")
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return m, models.WrapError(models.CodeMalformed, "the request body is not valid JSON, or has a member twice", err)
	}
	return m, nil
}

// members reads an object whose members have the names that are asked for. It reports false if
// the value is absent or no object, and has said so.
func members(field string, value jsontext.Value, required bool, v *models.Invalid) (m map[string]jsontext.Value, ok bool) {
	switch {
	case len(value) == 0:
		if required {
			v.Add(field, "is required")
		}
		return nil, false
	case value.Kind() != jsontext.KindBeginObject:
		v.Add(field, "must be an object")
		return nil, false
	}
	if err := json.Unmarshal(value, &m); err != nil { // it was part of a message that is valid
		v.Add(field, "could not be read")
		return nil, false
	}
	return m, true
}

func text(field string, value jsontext.Value, required bool, v *models.Invalid) (s string) {
	switch {
	case len(value) == 0:
		if required {
			v.Add(field, "is required")
		}
	case value.Kind() != jsontext.KindString:
		v.Add(field, "must be a string")
	default:
		if err := json.Unmarshal(value, &s); err != nil {
			v.Add(field, "could not be read")
		}
		if s == "" && required {
			v.Add(field, "must not be empty")
		}
	}
	return s
}

// object reads what a policy may see as it is.
func object(field string, value jsontext.Value, v *models.Invalid) (m map[string]any) {
	if len(value) == 0 {
		return nil
	}
	if value.Kind() != jsontext.KindBeginObject {
		v.Add(field, "must be an object")
		return nil
	}
	decoder := stdjson.NewDecoder(bytes.NewReader(value))
	decoder.UseNumber() // a policy may compare ids that a float64 cannot hold
	if err := decoder.Decode(&m); err != nil {
		v.Add(field, "could not be read")
		return nil
	}
	models.ValidateContext(field, m, v)
	return m
}

// readEntity reads a subject or a resource. Where it is searched for, its id is ignored.
func readEntity(field string, value jsontext.Value, searched bool, v *models.Invalid) (e entity) {
	m, ok := members(field, value, true, v)
	if !ok {
		return e
	}
	e.kind = text(field+".type", m["type"], true, v)
	if !searched {
		e.id = text(field+".id", m["id"], true, v)
	}
	e.properties = object(field+".properties", m["properties"], v)
	return e
}

func readAction(field string, value jsontext.Value, v *models.Invalid) (a action) {
	m, ok := members(field, value, true, v)
	if !ok {
		return a
	}
	a.name = text(field+".name", m["name"], true, v)
	a.properties = object(field+".properties", m["properties"], v)
	return a
}

// question is one evaluation.
type question struct {
	subject  entity
	action   action
	resource entity
	context  map[string]any
}

// The parts of a question that are searched for, and so are not given.
const (
	nothing = iota
	subjects
	resources
	actions
)

func readQuestion(m message, searched int, v *models.Invalid) (q question) {
	q.subject = readEntity("subject", m.Subject, searched == subjects, v)
	if searched != actions {
		q.action = readAction("action", m.Action, v)
	}
	q.resource = readEntity("resource", m.Resource, searched == resources, v)
	q.context = object("context", m.Context, v)
	return q
}

// domain is that of the resource: its property, or else fallback, or of a resource of the type
// domains, which is the domain, its id.
func (q *question) domain(fallback string, v *models.Invalid) string {
	const field = "resource.properties.domain"
	said, there := q.resource.properties["domain"]
	name, ok := said.(string)
	switch {
	case there && (!ok || name == ""):
		v.Add(field, "must be the id of a domain")
	case there:
		return name
	case fallback != "":
		return fallback
	case q.resource.kind == domainsType && q.resource.id != "":
		return q.resource.id
	default:
		v.Add(field, "is required: the id of the domain that the resource belongs to")
	}
	return ""
}

// request returns the question in the form that the policy judges. The context has what the caller says of the environment
// and, under `authzen`, what it says of the three others.
func (q *question) request(domain string) models.Request {
	req := models.Request{Domain: domain, EntityType: q.resource.kind, Entity: q.resource.id, Operation: q.action.name}
	said := map[string]any{}
	for name, properties := range map[string]map[string]any{"subject": q.subject.properties, "action": q.action.properties, "resource": q.resource.properties} {
		if len(properties) > 0 {
			said[name] = properties
		}
	}
	if len(said)+len(q.context) == 0 {
		return req
	}
	req.Context = map[string]any{}
	maps.Copy(req.Context, q.context)
	delete(req.Context, contextKey)
	if len(said) > 0 {
		req.Context[contextKey] = said
	}
	return req
}

// domainsType is the entity type whose entity is the domain itself.
const domainsType = "domains"

// contextKey is the member of a request's context for what AuthZEN says of subject, action and
// resource.
const contextKey = "authzen"

// semantic is the way in which several questions are evaluated (section 7.1.2.1).
type semantic string

const (
	executeAll         semantic = "execute_all"
	denyOnFirstDeny    semantic = "deny_on_first_deny"
	permitOnFirstAllow semantic = "permit_on_first_permit"
)

func readSemantic(value jsontext.Value, v *models.Invalid) semantic {
	m, ok := members("options", value, false, v)
	if !ok {
		return executeAll
	}
	const field = "options.evaluations_semantic"
	switch s := semantic(text(field, m["evaluations_semantic"], false, v)); s {
	case "":
		if len(m["evaluations_semantic"]) > 0 {
			v.Add(field, "must not be empty")
		}
		return executeAll
	case executeAll, denyOnFirstDeny, permitOnFirstAllow:
		return s
	default:
		v.Add(field, "must be one of %s, %s and %s", executeAll, denyOnFirstDeny, permitOnFirstAllow)
		return executeAll
	}
}

// readItems reads the questions of a batch, each with the defaults of the message for what it
// leaves out, whole (section 7.1.1). nil: there are none. An item that is no object is nil.
func readItems(m message, v *models.Invalid) (items []*message) {
	if len(m.Evaluations) == 0 {
		return nil
	}
	var raw []jsontext.Value
	if m.Evaluations.Kind() != jsontext.KindBeginArray || json.Unmarshal(m.Evaluations, &raw) != nil {
		v.Add("evaluations", "must be an array")
		return nil
	}
	if len(raw) > maxEvaluations {
		v.Add("evaluations", "must have at most %d items, not %d", maxEvaluations, len(raw))
		return nil
	}
	items = make([]*message, len(raw))
	for i, value := range raw {
		item := message{}
		if value.Kind() != jsontext.KindBeginObject || json.Unmarshal(value, &item) != nil {
			continue
		}
		for _, part := range []struct{ own, general *jsontext.Value }{
			{&item.Subject, &m.Subject}, {&item.Action, &m.Action}, {&item.Resource, &m.Resource}, {&item.Context, &m.Context},
		} {
			if len(*part.own) == 0 {
				*part.own = *part.general
			}
		}
		items[i] = &item
	}
	return items
}
