package request_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"patrol/server/request"
)

func TestForeign(t *testing.T) {
	for name, foreign := range map[string]bool{
		"Remote-User": true, "REMOTE_USER": true, "remote-groups": true, "X-Remote-User": true, "X-Remote-Extra-Scopes": true,
		"Impersonate-User": true, "Impersonate-Extra-Scopes": true, "X-Forwarded-User": true, "X_Forwarded_Email": true,
		"X-Forwarded-Groups": true, "X-Forwarded-Preferred-Username": true, "X-Auth-Request-User": true, "X-Auth-Email": true,
		"X-Authentik-Username": true, "X.Authentik.Groups": true, "Cf-Access-Jwt-Assertion": true, "CF-Access-Authenticated-User-Email": true,
		"SSL-Client-Verify": true, "SSL_CLIENT_S_DN": true, "X-SSL-Client-Cert": true, "Client-Cert": true, "X-Goog-IAP-JWT-Assertion": true,
		"X-Amzn-Oidc-Data": true, "X-Ms-Client-Principal": true, "X-Ms-Client-Principal-Idp": true, "X-Consumer-Custom-Id": true,
		"OIDC_CLAIM_sub": true, "Tailscale-User-Login": true, "X-Webauth-User": true, "X-Pomerium-Claim-Email": true, "X-Userinfo": true,
		// Headers about the connection or the application are not about the caller.
		"X-Forwarded-For": false, "X-Forwarded-Proto": false, "X-Forwarded-Host": false, "X-Forwarded-Port": false,
		"User-Agent": false, "Authorization": false, "X-Api-Key": false, "X-OpenWebUI-User-Email": false, "OpenAI-Organization": false,
		"X-Stainless-Lang": false, "Cf-Ray": false, "X-Amzn-Trace-Id": false, "X-Request-Id": false, "Content-Type": false, "X-Goog-Api-Client": false,
	} {
		assert.Equal(t, foreign, request.Foreign(name), name)
	}
}
