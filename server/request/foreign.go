package request

import "strings"

// foreign are the headers in which well-known authenticating proxies, identity providers
// and terminators of TLS tell an upstream who is calling, in lower case and with hyphens.
// Behind Patrol they can only come from the client.
var foreign = map[string]bool{
	// CGI's variable, as Apache, Authelia, Kubernetes and others send it.
	"remote-user": true, "remote-name": true, "remote-email": true, "remote-group": true, "remote-groups": true,
	"x-remote-user": true, "x-remote-name": true, "x-remote-email": true, "x-remote-group": true, "x-remote-groups": true,
	// oauth2-proxy, Traefik and their like. Others of X-Forwarded- are about the connection.
	"x-forwarded-user": true, "x-forwarded-email": true, "x-forwarded-group": true, "x-forwarded-groups": true, "x-forwarded-roles": true,
	"x-forwarded-preferred-username": true, "x-forwarded-access-token": true, "x-forwarded-login": true,
	"x-forwarded-tls-client-cert": true, "x-forwarded-tls-client-cert-info": true,
	// Keycloak's gatekeeper and its successors.
	"x-auth-user": true, "x-auth-username": true, "x-auth-userid": true, "x-auth-email": true, "x-auth-subject": true,
	"x-auth-name": true, "x-auth-roles": true, "x-auth-groups": true, "x-auth-audience": true,
	// Kong, APISIX, Google's ESP and API gateways, WSO2.
	"x-userinfo": true, "x-credential-identifier": true, "x-anonymous-consumer": true,
	"x-endpoint-api-userinfo": true, "x-apigateway-api-userinfo": true, "x-jwt-assertion": true,
	// caddy-security, Teleport.
	"x-token-subject": true, "teleport-jwt-assertion": true,
	// Certificates of clients: RFC 9440, Azure, nginx's ingress, HAProxy.
	"client-cert": true, "client-cert-chain": true, "x-arr-clientcert": true, "ssl-cert": true, "x-ssl-cert": true, "x-client-cert": true, "x-client-dn": true,
}

// foreignPrefixes begin the names of whole families of such headers.
var foreignPrefixes = []string{
	"x-authentik-", "cf-access-", "x-auth-request-", "x-authenticated-", "x-webauth-",
	"x-remote-extra-", "impersonate-", // Kubernetes
	"x-goog-authenticated-user-", "x-goog-iap-", "x-amzn-oidc-", "x-ms-client-principal", "x-ms-token-",
	"x-pomerium-", "x-vouch-", "x-consumer-", "x-token-user-", "tailscale-", "x-tailscale-",
	"oidc-claim-", "oidc-access-token", "oidc-id-token", "mellon-", "shib-", "x-shib-", "x-saml-",
	"ssl-client-", "x-ssl-client-", "x-tls-client-", "x-client-cert-",
}

// Foreign reports whether a header of this name tells an upstream who is calling, in the
// words of another proxy than Patrol, also to servers that take other characters for
// hyphens.
func Foreign(name string) bool {
	name = folded(name)
	if foreign[name] {
		return true
	}
	for _, prefix := range foreignPrefixes {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
