package decisionlog

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"patrol/models"
	"patrol/policies/engine"
	"patrol/server/authz"
)

// Masker puts decisions into the form of the log. It belongs to one goroutine.
type Masker struct {
	policy *engine.Engine
	key    []byte
	labels []byte

	// What the mask that is the same for all decisions made of facts.
	cachedFor *engine.Mask
	cached    map[*engine.Value]maskedFact
}

type maskedFact struct {
	fact           *models.Fact
	erased, masked []string
}

// maxFacts bounds how many masked facts are remembered.
const maxFacts = 50_000

// NewMasker returns what masks as the policy in force says. labels are the log's.
// Masks that hash do it with the key of db, everybody's on a database; if that is nil,
// with one that is good until the process ends.
func NewMasker(ctx context.Context, policy *engine.Engine, db Database, labels []byte) (*Masker, error) {
	key, err := hashKey(ctx, db)
	if err != nil {
		return nil, err
	}
	return newMasker(policy, key, labels), nil
}

func newMasker(policy *engine.Engine, key, labels []byte) *Masker {
	return &Masker{policy: policy, key: key, labels: labels, cached: map[*engine.Value]maskedFact{}}
}

// hashKey is the key of masks that hash: everybody's on a database, else one that
// is good until the process ends.
func hashKey(ctx context.Context, db Database) ([]byte, error) {
	if db != nil {
		return db.HashKey(ctx)
	}
	key := make([]byte, 32)
	_, err := rand.Read(key)
	return key, err
}

// withoutTokens masks text that a client chose.
func withoutTokens(text string) (masked string, found bool) {
	masked = models.MaskTokens(text)
	return masked, masked != text
}

// Logged makes a decision what is logged of it, in l. If the mask fails, there is
// no input, and an error says why.
func (m *Masker) Logged(ctx context.Context, r *authz.Record, l *models.LoggedDecision) error {
	*l = logged(r)
	m.removeTokens(l)
	facts := factsOf(r)
	err := m.addInput(r, l, facts)
	if err == nil {
		err = m.apply(ctx, l, facts)
	}
	if err != nil {
		l.Input, l.RequestedBy, l.Headers = nil, "", nil
		l.Erased, l.Masked = []string{"/input", "/requested_by", "/result/headers"}, nil
	}
	return err
}

// Unmasked returns a decision with the very input that it was made on: to judge it
// again, never to be kept or shown.
func Unmasked(r *authz.Record) (models.LoggedDecision, error) {
	l := logged(r)
	var err error
	if l.Input, err = inputOf(r, factsOf(r)); err == nil && l.Input != nil {
		// Another policy may read what the one that judged did not.
		err = addCall(l.Input, engine.Reads{IP: true, UserAgent: true, Method: true, Path: true, Headers: true}, r.Facts)
	}
	return l, err
}

func logged(r *authz.Record) models.LoggedDecision {
	l := models.LoggedDecision{
		Decision: r.Decision, At: r.At, Took: r.Took, Surface: r.Surface, RequestID: r.RequestID, Method: r.Method, Path: r.Path, Request: r.Request,
	}
	l.Request.Context = nil
	if r.IP.IsValid() {
		l.RequestedBy = r.IP.Unmap().WithZone("").String()
	}
	return l
}

func factsOf(r *authz.Record) [4]*engine.Value {
	return [4]*engine.Value{r.Facts.Token, r.Facts.User, r.Facts.Domain, r.Facts.Membership}
}

func (m *Masker) removeTokens(l *models.LoggedDecision) {
	for _, f := range [...]struct {
		text    *string
		pointer string
	}{
		{&l.Request.Domain, "/input/request/domain"},
		{&l.Request.EntityType, "/input/request/entity_type"},
		{&l.Request.Entity, "/input/request/entity"},
		{&l.Request.Operation, "/input/request/operation"},
		{&l.Path, "/custom/http/path"},
	} {
		var found bool
		if *f.text, found = withoutTokens(*f.text); found {
			l.Masked = append(l.Masked, f.pointer)
		}
	}
	for i := range l.Reasons {
		if text, found := withoutTokens(l.Reasons[i].Message); found {
			l.Reasons = append([]models.Reason(nil), l.Reasons...) // the decision's own were told already
			l.Reasons[i].Message = text
			l.Masked = append(l.Masked, "/result/reasons/"+strconv.Itoa(i)+"/message")
		}
	}
}

// addInput adds what the policy was asked with, if it was.
func (m *Masker) addInput(r *authz.Record, l *models.LoggedDecision, facts [4]*engine.Value) (err error) {
	if l.Input, err = inputOf(r, facts); err != nil || l.Input == nil {
		return err
	}
	if err := addCall(l.Input, r.Reads, r.Facts); err != nil {
		return err
	}
	for _, part := range [...]struct {
		text    *string
		pointer string
	}{{&l.Input.Context, "/input/request/context"}, {&l.Input.Client, "/input/client"}, {&l.Input.HTTP, "/input/http"}} {
		if *part.text == "" {
			continue
		}
		var found bool
		if *part.text, found = withoutTokens(*part.text); found {
			l.Masked = append(l.Masked, part.pointer)
		}
	}
	return nil
}

// inputOf returns the policy's input; nil if the policy was not asked.
func inputOf(r *authz.Record, facts [4]*engine.Value) (*models.DecisionInput, error) {
	if r.JudgedAt.IsZero() {
		return nil, nil //nolint:nilnil // none is one of the answers
	}
	in := &models.DecisionInput{Now: r.JudgedAt.Unix()}
	for i, to := range [...]**models.Fact{&in.Token, &in.User, &in.Domain, &in.Membership} {
		var err error
		if *to, err = facts[i].Fact(); err != nil {
			return nil, err
		}
	}
	if len(r.Request.Context) > 0 {
		var err error
		if in.Context, err = marshal(r.Request.Context); err != nil {
			return nil, fmt.Errorf("write the context as JSON: %w", err)
		}
	}
	return in, nil
}

// addCall adds what is read of the facts about the call.
func addCall(in *models.DecisionInput, reads engine.Reads, facts engine.Facts) (err error) {
	client, http := reads.Call(facts)
	if client != (models.Client{}) {
		doc := map[string]string{}
		if client.IP.IsValid() {
			doc["ip"] = client.IP.String()
		}
		if client.UserAgent != "" {
			doc["user_agent"] = client.UserAgent
		}
		if in.Client, err = marshal(doc); err != nil {
			return fmt.Errorf("write the client as JSON: %w", err)
		}
	}
	if http == nil {
		return nil
	}
	doc := map[string]any{}
	for name, text := range map[string]string{"method": http.Method, "path": http.Path} {
		if text != "" {
			doc[name] = text
		}
	}
	if reads.Headers {
		headers := http.Headers
		if headers == nil {
			headers = map[string]string{}
		}
		doc["headers"] = headers
	}
	if in.HTTP, err = marshal(doc); err != nil {
		return fmt.Errorf("write the proxied request as JSON: %w", err)
	}
	return nil
}

func marshal(v any) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return strings.TrimSuffix(b.String(), "\n"), err
}

// apply does what the policy's mask says.
func (m *Masker) apply(ctx context.Context, l *models.LoggedDecision, facts [4]*engine.Value) error {
	mask, err := m.policy.Current().Mask(ctx, func() []byte { return l.AppendEvent(nil, m.labels) })
	if err != nil {
		return err
	}
	if mask != m.cachedFor {
		m.cachedFor = mask
		clear(m.cached)
	}
	for _, rule := range mask.Rules {
		if err := m.applyRule(rule, l); err != nil {
			return fmt.Errorf("mask %s: %w", rule.Path, err)
		}
	}
	if l.Input == nil {
		return nil
	}
	for i, to := range [...]**models.Fact{&l.Input.Token, &l.Input.User, &l.Input.Domain, &l.Input.Membership} {
		if *to == nil {
			continue
		}
		done, ok := m.cached[facts[i]]
		if !ok {
			if done, err = m.maskFact(mask, factNames[i], *to); err != nil {
				return err
			}
			if len(m.cached) >= maxFacts {
				clear(m.cached)
			}
			m.cached[facts[i]] = done
		}
		*to = done.fact
		l.Erased, l.Masked = append(l.Erased, done.erased...), append(l.Masked, done.masked...)
	}
	return nil
}

var factNames = [4]string{"token", "user", "domain", "membership"}

// note records what a rule did.
func note(rule engine.MaskRule, erased, masked *[]string) {
	if rule.Op == engine.MaskRemove {
		*erased = append(*erased, rule.Path)
	} else {
		*masked = append(*masked, rule.Path)
	}
}

// maskFact applies the rules that reach into one kind of fact.
func (m *Masker) maskFact(mask *engine.Mask, name string, fact *models.Fact) (maskedFact, error) {
	done := maskedFact{fact: fact}
	var doc any
	for _, rule := range mask.Rules {
		if len(rule.Parts) < 2 || rule.Parts[0] != "input" || rule.Parts[1] != name || done.fact == nil {
			continue
		}
		if doc == nil {
			if err := unmarshal(fact.JSON, &doc); err != nil {
				return done, err
			}
		}
		var changed bool
		if doc, changed = m.change(doc, rule.Parts[2:], rule); changed {
			note(rule, &done.erased, &done.masked)
		}
		if doc == nil {
			done.fact = nil
		}
	}
	if done.fact == nil || len(done.erased)+len(done.masked) == 0 {
		return done, nil
	}
	var err error
	done.fact, err = engine.FactOf(doc)
	return done, err
}

func unmarshal(text string, to *any) error {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	return dec.Decode(to)
}

var errShape = errors.New("the log cannot hold what it makes of this")

// applyRule applies a rule that is not about a fact.
func (m *Masker) applyRule(rule engine.MaskRule, l *models.LoggedDecision) error {
	p := rule.Parts
	changed := false
	var err error
	switch {
	case p[0] == "requested_by":
		changed, err = m.changeText(&l.RequestedBy, rule)
	case p[0] == "result": // …/headers
		changed, err = m.changeHeaders(l, rule)
	case len(p) == 1: // /input
		changed, l.Input = l.Input != nil, nil
		l.Request = models.Request{}
	case p[1] == "request" && len(p) == 2:
		changed, l.Input = l.Input != nil, nil
		l.Request = models.Request{}
	case p[1] == "client" && l.Input != nil:
		changed, err = m.changeObject(&l.Input.Client, p[2:], rule)
	case p[1] == "http" && l.Input != nil:
		changed, err = m.changeObject(&l.Input.HTTP, p[2:], rule)
	case p[1] == "request" && p[2] == "context" && l.Input != nil:
		changed, err = m.changeObject(&l.Input.Context, p[3:], rule)
	case p[1] == "request" && len(p) == 3:
		field := map[string]*string{
			"domain": &l.Request.Domain, "entity_type": &l.Request.EntityType, "entity": &l.Request.Entity, "operation": &l.Request.Operation,
		}[p[2]]
		if field != nil {
			changed, err = m.changeText(field, rule)
		}
	}
	if changed {
		note(rule, &l.Erased, &l.Masked)
	}
	return err
}

func (m *Masker) changeText(text *string, rule engine.MaskRule) (changed bool, err error) {
	if *text == "" {
		return false, nil
	}
	switch value := rule.Value.(type) {
	case string:
		*text = value
		return true, nil
	case nil:
		if rule.Op == engine.MaskHash {
			*text = m.hash(*text)
		} else {
			*text = ""
		}
		return true, nil
	}
	return false, errShape
}

// changeObject changes a part of the input that is a text of JSON, an object.
func (m *Masker) changeObject(text *string, parts []string, rule engine.MaskRule) (changed bool, err error) {
	if *text == "" {
		return false, nil
	}
	var doc any
	if err := unmarshal(*text, &doc); err != nil {
		return false, err
	}
	doc, changed = m.change(doc, parts, rule)
	switch doc := doc.(type) {
	case nil:
		*text = ""
	case map[string]any:
		if changed {
			*text, err = marshal(doc)
		}
	default:
		return false, errShape
	}
	return changed, err
}

func (m *Masker) changeHeaders(l *models.LoggedDecision, rule engine.MaskRule) (changed bool, err error) {
	if l.Headers == nil {
		return false, nil
	}
	doc := map[string]any{}
	for name, value := range l.Headers {
		doc[name] = value
	}
	after, changed := m.change(doc, rule.Parts[2:], rule)
	l.Headers = nil
	headers, ok := after.(map[string]any)
	if after != nil && !ok {
		return false, errShape
	}
	for name, value := range headers {
		text, ok := value.(string)
		if !ok {
			return false, errShape
		}
		if l.Headers == nil {
			l.Headers = map[string]string{}
		}
		l.Headers[name] = text
	}
	return changed, nil
}

// change applies a rule to the part of a document that parts lead to, and returns
// the document: nil if all of it is removed. Removing and hashing what is not
// there changes nothing; an upsert makes what leads there.
func (m *Masker) change(doc any, parts []string, rule engine.MaskRule) (after any, changed bool) {
	if len(parts) == 0 {
		switch rule.Op {
		case engine.MaskUpsert:
			return rule.Value, true
		case engine.MaskHash:
			text, err := marshal(doc)
			if s, ok := doc.(string); ok {
				text = s
			}
			if err != nil {
				return nil, true
			}
			return m.hash(text), true
		}
		return nil, true
	}
	switch node := doc.(type) {
	case map[string]any:
		child, there := node[parts[0]]
		switch {
		case !there && rule.Op != engine.MaskUpsert:
			return doc, false
		case !there:
			child = map[string]any{}
		}
		if child, changed = m.change(child, parts[1:], rule); changed {
			if child == nil && rule.Op == engine.MaskRemove && len(parts) == 1 {
				delete(node, parts[0])
			} else {
				node[parts[0]] = child
			}
		}
		return node, changed
	case []any:
		i, err := strconv.Atoi(parts[0])
		if err != nil || i < 0 || i >= len(node) {
			return doc, false
		}
		child, changed := m.change(node[i], parts[1:], rule)
		switch {
		case changed && rule.Op == engine.MaskRemove && len(parts) == 1:
			node = append(node[:i:i], node[i+1:]...)
		case changed:
			node[i] = child
		}
		return node, changed
	}
	return doc, false
}

// hash is a keyed hash: equal texts have equal hashes, and nobody without the key
// can try out texts.
func (m *Masker) hash(text string) string {
	mac := hmac.New(sha256.New, m.key)
	mac.Write([]byte(text))
	return "hmac-sha256:" + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:18])
}
