package identity

import (
	"net/http"
	"net/url"
	"strings"

	"patrol/models"
	"patrol/server/authz"
	"patrol/server/request"
)

var (
	errSignInFirst = models.NewError(models.CodeUnauthenticated, "you are not signed in, or your session has ended")
	// ErrStaleSignIn is the error where a sign-in is too old.
	ErrStaleSignIn = models.NewError(models.CodeReauthentication, "your sign-in is too old for this; give your password again at /api/v1/session/reauthenticate")
	// ErrStaleForm is the same for what any form may do, which the page of the form does
	// not ask for itself.
	ErrStaleForm   = models.WrapError(models.CodeReauthentication, ErrStaleSignIn.Message, ErrStaleSignIn)
	errElsewhere   = models.NewError(models.CodeIPForbidden, "this access token may not be used from this address; its owner chose those from which it may")
	errPATHere     = models.NewError(models.CodeSessionRequired, "a personal access token cannot do this; sign in instead")
	errNoPAT       = models.NewError(models.CodeUnauthenticated, "send the personal access token as 'Authorization: Bearer <token>'")
	errBadPAT      = models.NewError(models.CodeUnauthenticated, "the personal access token is not valid")
	errCrossOrigin = models.NewError(models.CodeForbidden, "this request was sent by a page of another site")
)

// AdmitSession admits a signed-in user: by the session token in the
// Authorization header if there is one, else by the cookie. The user is read at
// every call, so that disabling one ends their sessions.
func (s *Service) AdmitSession(w http.ResponseWriter, r *http.Request) (models.Principal, *http.Request, error) {
	var token string
	switch cred := request.CredentialOf(r.Header); cred.Kind {
	case request.NoCredential:
		if err := s.SameSite(r); err != nil {
			return models.Principal{}, r, err
		}
		token = s.sessions.cookieValue(r)
	case request.SessionCredential:
		token = strings.TrimPrefix(cred.Token, models.BearerPrefix)
	case request.AccessCredential:
		if _, _, err := s.verifyPAT(w, r, cred.Token); err != nil {
			return models.Principal{}, r, err
		}
		return models.Principal{}, r, errPATHere
	default:
		return models.Principal{}, r, errSignInFirst
	}
	ctx, err := s.sessions.load(r.Context(), token, r.Header["Authorization"] != nil)
	if err != nil {
		if request.CredentialOf(r.Header).Kind == request.SessionCredential && models.CodeOf(err) == models.CodeUnauthenticated {
			w.Header().Set("WWW-Authenticate", request.ChallengeInvalid)
		}
		return models.Principal{}, r, err
	}
	userID, signedInAt := s.sessions.user(ctx)
	user, err := s.store.User(ctx, userID)
	if err != nil {
		return models.Principal{}, r, err
	}
	if user == nil || user.Disabled || user.Absent(s.now(), s.cfg.OIDC.MaxAbsence) {
		return models.Principal{}, r, errSignInFirst
	}
	x := request.Of(ctx)
	x.UserID = user.ID
	return models.Principal{User: *user, SignedInAt: signedInAt, AtProvider: s.provider != nil && s.sessions.atProvider(ctx), Actor: x.Actor(models.ActorUser, user.ID, "")}, r.WithContext(ctx), nil
}

// SameSite refuses what a page of another site made a browser send. It is asked
// only where a cookie could count as the caller's consent.
func (s *Service) SameSite(r *http.Request) error {
	if err := s.crossOrigin.Check(r); err != nil {
		return errCrossOrigin
	}
	return nil
}

// FromElsewhere reports whether a page of another site led the browser here. Browsers that do
// not say so are asked for the page that they came from; who typed the address came from none.
func (s *Service) FromElsewhere(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return false
	case "":
		from, err := url.Parse(r.Header.Get("Referer"))
		return err != nil || from.Host != "" && !strings.EqualFold(from.Host, r.Host) && from.Scheme+"://"+from.Host != s.cfg.Origin
	}
	return true
}

// AdmitPAT admits a PAT that is alive, as whose owner is.
func (s *Service) AdmitPAT(w http.ResponseWriter, r *http.Request) (models.Principal, error) {
	cred := request.CredentialOf(r.Header)
	switch cred.Kind {
	case request.NoCredential, request.OtherCredential:
		return models.Principal{}, errNoPAT
	case request.SessionCredential:
		w.Header().Set("WWW-Authenticate", request.ChallengeInvalid)
		return models.Principal{}, errBadPAT
	}
	pat, user, err := s.verifyPAT(w, r, cred.Token)
	if err != nil {
		return models.Principal{}, err
	}
	x := request.Of(r.Context())
	x.UserID = user.ID
	return models.Principal{User: *user, PAT: pat, Actor: x.Actor(models.ActorToken, user.ID, pat.ID)}, nil
}

// verifyPAT returns the record of a PAT that may be used now, and its owner. The
// secret is verified before anything else is looked at; then the state is read
// from the store, not from a cache.
func (s *Service) verifyPAT(w http.ResponseWriter, r *http.Request, text string) (*models.PAT, *models.User, error) {
	ctx, x := r.Context(), request.Of(r.Context())
	call := authz.Call{Token: text, Surface: "api", RequestID: x.ID, IP: x.Client, UserAgent: models.MaskTokens(r.UserAgent())}
	_, d, ok := s.authz.Begin(ctx, call)
	if !ok {
		if d.Status() == http.StatusServiceUnavailable {
			return nil, nil, models.NewError(models.CodeUnavailable, "the token could not be looked up")
		}
		w.Header().Set("WWW-Authenticate", request.ChallengeInvalid)
		return nil, nil, errBadPAT
	}
	token, err := models.ParseToken(text)
	if err != nil {
		return nil, nil, err // Begin would have refused it
	}
	pat, err := s.store.PAT(ctx, token.ID)
	if err != nil {
		return nil, nil, err
	}
	var user *models.User
	if pat != nil {
		*pat = s.manage.Counted(*pat)
		if user, err = s.store.User(ctx, pat.UserID); err != nil {
			return nil, nil, err
		}
	}
	if pat == nil || pat.Status(s.now()) != models.StatusActive || user == nil || user.Disabled || user.Absent(s.now(), s.cfg.OIDC.MaxAbsence) {
		w.Header().Set("WWW-Authenticate", request.ChallengeInvalid)
		return nil, nil, errBadPAT
	}
	if !s.authz.AllowedFrom(*pat, call) {
		return nil, nil, errElsewhere
	}
	return pat, user, nil
}
