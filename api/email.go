package api

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// NewEmailChange is the body of `POST /api/v1/users/{id}/email-change`.
type NewEmailChange struct {
	Email string `json:"email"`
}

// EmailChange is the answer of `POST /api/v1/users/{id}/email-change`, the only one that tells
// the code with which the owner of the account confirms the address. URL leads to the page that
// takes it; the code is in its fragment, which browsers do not send.
type EmailChange struct {
	Email     string    `json:"email"`
	Code      string    `json:"code"`
	URL       string    `json:"url"`
	ExpiresAt time.Time `json:"expires_at"`
}

// ConfirmEmail is the body of `POST /api/v1/me/email`.
type ConfirmEmail struct {
	Code string `json:"code"`
}

// ChangeEmail makes a code with which the owner of an account confirms another address. It is
// for platform admins, and takes a fresh sign-in.
func (c *Client) ChangeEmail(ctx context.Context, userID, email string) (EmailChange, error) {
	var out EmailChange
	err := c.session(ctx, http.MethodPost, "/users/"+url.PathEscape(userID)+"/email-change", nil, NewEmailChange{Email: email}, &out)
	return out, err
}

// ConfirmEmail gives one's own account the address that a code is for. It takes a fresh
// sign-in.
func (c *Client) ConfirmEmail(ctx context.Context, code string) (Me, error) {
	var out Me
	err := c.session(ctx, http.MethodPost, "/me/email", nil, ConfirmEmail{Code: code}, &out)
	return out, err
}
