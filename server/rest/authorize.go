package rest

import (
	"bytes"
	stdjson "encoding/json"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json/jsontext"

	"patrol/api"
	"patrol/models"
	"patrol/server/authz"
	"patrol/server/request"
)

// maxBatch bounds the requests in one call of /authorize/batch, and maxBatchBodies its
// body: this many of the longest that others may have.
const (
	maxBatch       = 1000
	maxBatchBodies = 16
)

// authorizeItem is [api.AuthorizeItem] as it is read: the context stays raw until
// it is known that there is one.
type authorizeItem struct {
	Domain     string         `json:"domain"`
	EntityType string         `json:"entity_type"`
	Entity     string         `json:"entity"`
	Operation  string         `json:"operation"`
	Context    jsontext.Value `json:"context"`
}

// authorizeBody is [api.AuthorizeRequest] as it is read.
type authorizeBody struct {
	Token       *string `json:"token"`
	Consistency *string `json:"consistency"`
	Client      *client `json:"client"`
	authorizeItem
}

// batchBody is [api.AuthorizeBatch] as it is read.
type batchBody struct {
	Token       *string         `json:"token"`
	Consistency *string         `json:"consistency"`
	Client      *client         `json:"client"`
	Requests    []authorizeItem `json:"requests"`
}

// client is [api.AuthorizeClient] as it is read.
type client struct {
	IP        *string `json:"ip"`
	UserAgent *string `json:"user_agent"`
}

// read returns the client that a caller names, and adds to v what is wrong with it.
func (c *client) read(v *models.Invalid) *models.Client {
	if c == nil {
		return nil
	}
	var out models.Client
	if c.IP != nil {
		addr, err := netip.ParseAddr(*c.IP)
		if err != nil || addr.Zone() != "" {
			v.Add("client.ip", "must be an IPv4 or IPv6 address without a port or a zone")
		}
		out.IP = addr.Unmap()
	}
	if c.UserAgent != nil {
		if len(*c.UserAgent) > models.MaxUserAgent {
			v.Add("client.user_agent", "must have at most %d bytes", models.MaxUserAgent)
		}
		out.UserAgent = models.MaskTokens(*c.UserAgent)
	}
	return &out
}

func (s *Surface) authorize(c *gin.Context, _ models.Principal) error {
	var in authorizeBody
	if err := s.readBody(c, &in); err != nil {
		return err
	}
	var v models.Invalid
	full := readConsistency(in.Consistency, &v)
	req, err := in.request("", &v)
	if err != nil {
		return err
	}
	of := in.Client.read(&v)
	call, err := s.authorizeCall(c, in.Token, of, full, v.Err())
	if err != nil {
		return err
	}
	call.Request = req
	request.WriteJSON(c.Writer, http.StatusOK, wireDecision(s.authz.Authorize(c.Request.Context(), call)))
	return nil
}

func (s *Surface) authorizeBatch(c *gin.Context, _ models.Principal) error {
	var in batchBody
	if err := s.readBodyUpTo(c, maxBatchBodies*s.cfg.HTTP.MaxBodyBytes, &in); err != nil {
		return err
	}
	var v models.Invalid
	if n := len(in.Requests); n < 1 || n > maxBatch {
		v.Add("requests", "must have 1 to %d items, not %d", maxBatch, n)
		return v.Err()
	}
	full := readConsistency(in.Consistency, &v)
	requests := make([]models.Request, len(in.Requests))
	for i, item := range in.Requests {
		var err error
		if requests[i], err = item.request(fmt.Sprintf("requests[%d].", i), &v); err != nil {
			return err
		}
	}
	of := in.Client.read(&v)
	call, err := s.authorizeCall(c, in.Token, of, full, v.Err())
	if err != nil {
		return err
	}
	decisions := s.authz.AuthorizeBatch(c.Request.Context(), call, requests)
	out := api.DecisionBatch{Decisions: make([]api.Decision, len(decisions))}
	for i, d := range decisions {
		out.Decisions[i] = wireDecision(d)
	}
	request.WriteJSON(c.Writer, http.StatusOK, out)
	return nil
}

// authorizeCall takes the token from where it was sent: the body or a Bearer
// header, not both. Another scheme in the header is no token. The request then enters the
// decisions' share of the places. of is the client that the caller names, which counts
// if the caller is trusted; without one, nothing is known of whoever a trusted caller asks
// for but the caller. invalid is the error of the body.
func (s *Surface) authorizeCall(c *gin.Context, inBody *string, of *models.Client, full bool, invalid error) (authz.Call, error) {
	if invalid != nil {
		return authz.Call{}, invalid
	}
	x := request.Of(c.Request.Context())
	call := authz.Call{Surface: "authorize", RequestID: x.ID, IP: x.Client, UserAgent: models.MaskTokens(c.Request.UserAgent()), Full: full}
	if of != nil && s.cfg.TrustedCallers.Trust(x.Client) {
		call.Client = of
	}
	cred := request.CredentialOf(c.Request.Header)
	bearer := cred.Kind == request.AccessCredential || cred.Kind == request.SessionCredential
	switch {
	case bearer && inBody != nil:
		return call, models.NewError(models.CodeMalformed, "the token is in both the body and the Authorization header; send it once")
	case inBody != nil:
		call.Token = *inBody
	case bearer:
		call.Token = cred.Token
	}
	return call, x.EnterToDecide(call.Token, s.authz.Verified)
}

// readConsistency reports whether the facts are to be read from the store, whatever
// is cached.
func readConsistency(in *string, v *models.Invalid) (full bool) {
	switch {
	case in == nil:
		return false
	case *in == api.ConsistencyFull:
		return true
	}
	v.Add("consistency", "must be %q, or left out", api.ConsistencyFull)
	return false
}

// request turns an item into what is judged. What is wrong with it is added to v
// under prefix, or with a nil v returned.
func (in authorizeItem) request(prefix string, v *models.Invalid) (models.Request, error) {
	req := models.Request{Domain: in.Domain, EntityType: in.EntityType, Entity: in.Entity, Operation: in.Operation}
	own := v == nil
	if own {
		v = &models.Invalid{}
	}
	req.ValidateAt(prefix, v)
	if len(in.Context) > 0 && in.Context.Kind() != jsontext.KindNull {
		if in.Context.Kind() != jsontext.KindBeginObject {
			v.Add(prefix+"context", "must be an object")
		} else {
			// Numbers stay as they were written: a policy may compare ids that
			// a float64 cannot hold.
			decoder := stdjson.NewDecoder(bytes.NewReader(in.Context))
			decoder.UseNumber()
			if err := decoder.Decode(&req.Context); err != nil {
				return req, models.WrapError(models.CodeMalformed, "the context is not valid JSON", err)
			}
			models.ValidateContext(prefix+"context", req.Context, v)
		}
	}
	if own {
		return req, v.Err()
	}
	return req, nil
}

func wireDecision(d models.Decision) api.Decision {
	return api.Decision{
		Allowed: d.Allowed, DecisionID: d.ID, Reasons: d.Reasons, Status: d.Status(),
		TokenID: d.TokenID, UserID: d.UserID, ScopeID: d.ScopeID, Revision: d.Revision, Labels: d.Labels, Waived: api.WaivedOf(d.Waived),
	}
}
