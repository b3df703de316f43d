package authzen

import (
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"patrol/api"
	"patrol/models"
	"patrol/server/authz"
	"patrol/server/manage"
)

const (
	defaultResults = 50
	maxResults     = manage.MaxPage
	// maxExamined bounds the people or tokens that one request goes through.
	maxExamined = 10_000
)

// cursor is the position in a search. It is opaque to the caller.
type cursor struct {
	Question string `json:"q"` // a digest of what was searched for
	After    string `json:"a"`
	Limit    int    `json:"n"`
}

// page is the part of a search that is wanted.
type page struct {
	question string
	after    string
	limit    int
}

func (p page) next(after string) string {
	if after == "" {
		return ""
	}
	text, err := json.Marshal(cursor{p.question, after, p.limit})
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// readPage reads which page is wanted (section 8.2.1). Whoever brings a token has to ask the
// same again.
func readPage(value jsontext.Value, question string, v *models.Invalid) page {
	p := page{question: question, limit: defaultResults}
	m, ok := members("page", value, false, v)
	if !ok {
		return p
	}
	asked := -1
	if limit := m["limit"]; len(limit) > 0 {
		if limit.Kind() != jsontext.KindNumber || json.Unmarshal(limit, &asked) != nil || asked < 0 {
			v.Add("page.limit", "must be a whole number that is not negative")
		}
	}
	token := text("page.token", m["token"], false, v)
	if token == "" {
		if asked > 0 {
			p.limit = min(asked, maxResults)
		}
		return p
	}
	var c cursor
	content, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || json.Unmarshal(content, &c) != nil || c.After == "" || c.Limit < 1 || c.Limit > maxResults {
		v.Add("page.token", "is none that this server gave out")
		return p
	}
	if c.Question != question || asked > 0 && min(asked, maxResults) != c.Limit {
		v.Add("page.token", "belongs to another search; begin anew without a token")
	}
	p.after, p.limit = c.After, c.Limit
	return p
}

// digest identifies a search: what is asked, without what is ignored. Equal searches have equal
// digests, however they are written.
func (q *question) digest(searched int, domain string) string {
	said, err := json.Marshal([]any{
		searched, domain, q.subject.kind, q.subject.id, q.subject.properties, q.action.name, q.action.properties,
		q.resource.kind, q.resource.id, q.resource.properties, q.context,
	}, json.Deterministic(true))
	if err != nil {
		panic(err) // it was read from JSON
	}
	sum := sha256.Sum256(said)
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// search is one that is about to be answered.
type search struct {
	question

	name     string // of the domain
	page     page
	domain   *models.Domain // nil: there is none, and so nothing is found
	examined *authz.Examination
	found    []api.AccessResult
	depends  map[string]bool
}

// begin reads a search and makes sure that the caller may ask.
func (k *caller) begin(m message, searched int) (*search, error) {
	var v models.Invalid
	w := &search{question: readQuestion(m, searched, &v), depends: map[string]bool{}, found: []api.AccessResult{}}
	if err := wrong(&v); err != nil {
		return nil, err
	}
	w.name = w.question.domain(k.cfg.Domain, &v)
	w.page = readPage(m.Page, w.digest(searched, w.name), &v)
	if err := wrong(&v); err != nil {
		return nil, err
	}
	if !models.IsEntity(w.name) {
		return w, nil
	}
	if why := k.mayAsk(w.name); why != nil {
		return nil, why
	}
	var err error
	w.domain, err = k.manage.FindDomain(k.ctx, w.name)
	w.examined = k.authz.Examine()
	return w, err
}

// take has the policy decide on one candidate, and takes it if it is allowed.
func (w *search) take(k *caller, of *authz.Examined, member *models.Membership, req models.Request, result api.AccessResult) {
	if req.Validate() != nil {
		return // nobody can have such a thing
	}
	a := of.May(k.ctx, req, w.domain, member)
	for _, part := range a.DependsOn {
		w.depends[part] = true
	}
	if a.Allowed {
		w.found = append(w.found, result)
	}
}

// answer returns the results of the page with the token of the next one.
func (w *search) answer(next string) api.AccessResults {
	out := api.AccessResults{Results: w.found, Page: api.AccessPage{NextToken: w.page.next(next), Count: len(w.found)}}
	if len(w.depends) > 0 {
		out.Context = &api.AccessContext{DependsOn: slices.Sorted(maps.Keys(w.depends))}
	}
	return out
}

// nothing is the answer where there is nobody to ask about.
func (w *search) nothing(err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return w.answer(""), nil
}

// listed answers with the part of what was found that is wanted, in the order of the keys.
func (w *search) listed(key func(api.AccessResult) string) api.AccessResults {
	w.found = slices.DeleteFunc(w.found, func(r api.AccessResult) bool { return w.page.after != "" && key(r) <= w.page.after })
	slices.SortFunc(w.found, func(a, b api.AccessResult) int { return strings.Compare(key(a), key(b)) })
	next := ""
	if len(w.found) > w.page.limit {
		w.found = w.found[:w.page.limit]
		next = key(w.found[len(w.found)-1])
	}
	return w.answer(next)
}

// searchSubjects answers who may (section 8.4): users, or tokens that work.
func (s *Surface) searchSubjects(k *caller, m message) (any, error) {
	w, err := k.begin(m, subjects)
	if err != nil || w.domain == nil {
		return w.nothing(err)
	}
	switch w.subject.kind {
	case userSubject:
		return answerOf(w.users(k))
	case tokenSubject:
		return answerOf(w.tokens(k))
	}
	return w.answer(""), nil
}

// users goes through everybody, since a policy may let people in who are no members.
func (w *search) users(k *caller) (none api.AccessResults, err error) {
	req := w.request(w.name)
	seen, after := 0, w.page.after
	for {
		list, next, err := k.manage.Standings(k.ctx, w.name, manage.Page{Limit: w.page.limit - len(w.found), After: after})
		if err != nil {
			return none, err
		}
		for _, one := range list {
			w.take(k, w.examined.User(one.User), one.Membership, req, api.AccessResult{
				Type: userSubject, ID: one.User.ID, Properties: map[string]string{"email": one.User.Email},
			})
		}
		after, seen = next, seen+len(list)
		// A page may be shorter than it could be: to look for the last few would take a query each.
		if next == "" || 2*len(w.found) >= w.page.limit || seen >= maxExamined || k.ctx.Err() != nil {
			return w.answer(next), k.ctx.Err()
		}
	}
}

func (w *search) tokens(k *caller) (none api.AccessResults, err error) {
	req := w.request(w.name)
	seen, after := 0, w.page.after
	for {
		list, next, err := k.manage.SearchPATs(k.ctx, manage.PATSearch{Within: w.name, Status: models.StatusActive}, manage.Page{Limit: w.page.limit - len(w.found), After: after})
		if err != nil {
			return none, err
		}
		for _, one := range list {
			owner, err := k.user(one.UserID)
			if err != nil {
				return none, err
			}
			member, err := k.manage.FindMembership(k.ctx, one.UserID, w.name)
			if err != nil {
				return none, err
			}
			w.take(k, w.examined.Token(one.PAT, owner), member, req, api.AccessResult{
				Type: tokenSubject, ID: one.ID, Properties: map[string]string{"user_id": one.UserID},
			})
		}
		after, seen = next, seen+len(list)
		// A page may be shorter than it could be: to look for the last few would take a query each.
		if next == "" || 2*len(w.found) >= w.page.limit || seen >= maxExamined || k.ctx.Err() != nil {
			return w.answer(next), k.ctx.Err()
		}
	}
}

// whom returns the subject of a search for something else; nil: there is none.
func (w *search) whom(k *caller) (of *authz.Examined, member *models.Membership, named []models.Scope, err error) {
	var owner *models.User
	switch w.subject.kind {
	case userSubject:
		if owner, err = k.user(w.subject.id); err != nil || owner == nil {
			return nil, nil, nil, err
		}
		of = w.examined.User(owner)
	case tokenSubject:
		id := w.subject.id
		if token, err := models.ParseToken(id); err == nil {
			call := k.call
			call.Token = id
			if _, _, ok := k.authz.Begin(k.ctx, call); !ok {
				return nil, nil, nil, nil // the secret is wrong
			}
			id = token.ID
		}
		if !models.IsTokenID(id) {
			return nil, nil, nil, nil
		}
		pat, err := k.manage.FindPAT(k.ctx, id)
		if err != nil || pat == nil {
			return nil, nil, nil, err
		}
		if owner, err = k.user(pat.UserID); err != nil || owner == nil {
			return nil, nil, nil, err
		}
		of, named = w.examined.Token(*pat, owner), pat.Scopes
	default:
		return nil, nil, nil, nil
	}
	member, err = k.manage.FindMembership(k.ctx, owner.ID, w.name)
	return of, member, named, err
}

// searchResources answers what somebody may use (section 8.5). Patrol keeps no list of what
// there is: it goes through the entities that the catalog and the token's scopes name, and `*`,
// which stands for all.
func (s *Surface) searchResources(k *caller, m message) (any, error) {
	w, err := k.begin(m, resources)
	if err != nil || w.domain == nil {
		return w.nothing(err)
	}
	of, member, scopes, err := w.whom(k)
	if err != nil || of == nil {
		return w.nothing(err)
	}
	candidates := map[string]bool{models.Any: true}
	for _, e := range w.examined.Catalog().EntityTypes[w.resource.kind].Entities {
		candidates[e] = true
	}
	for _, sc := range scopes {
		if sc.EntityType == w.resource.kind && (sc.Domain == w.name || sc.Domain == models.Any) {
			candidates[sc.Entity] = true
		}
	}
	if w.resource.kind == domainsType {
		candidates = map[string]bool{w.name: true}
	}
	req := w.request(w.name)
	for id := range candidates {
		req.Entity = id
		w.take(k, of, member, req, api.AccessResult{Type: w.resource.kind, ID: id})
	}
	return w.listed(func(r api.AccessResult) string { return r.ID }), k.ctx.Err()
}

// searchActions answers what somebody may do with something (section 8.6).
func (s *Surface) searchActions(k *caller, m message) (any, error) {
	w, err := k.begin(m, actions)
	if err != nil || w.domain == nil {
		return w.nothing(err)
	}
	of, member, _, err := w.whom(k)
	if err != nil || of == nil {
		return w.nothing(err)
	}
	req := w.request(w.name)
	for name := range w.examined.Catalog().EntityTypes[w.resource.kind].Operations {
		req.Operation = name
		w.take(k, of, member, req, api.AccessResult{Name: name})
	}
	return w.listed(func(r api.AccessResult) string { return r.Name }), k.ctx.Err()
}
