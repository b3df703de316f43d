# METADATA
# title: The mask of the decision log
# description: |
#   Decisions are logged with all that they were made on, so that they can be made
#   again. `mask` says what of it is not to be kept: JSON pointers to remove, or
#   objects {"op": "remove" | "upsert" | "hash", "path": pointer, "value": …}. Its
#   input is the event that would be logged; see the README of this bundle.
#
#   A mask that does not look at its input costs nothing per decision.
package patrol.log

# METADATA
# title: What is removed or replaced
# description: The context is whatever callers of /authorize send along. Nobody needs their secrets.
mask contains concat("", ["/input/request/context/", name]) if some name in secret_names

# METADATA
# title: Headers for the upstream are not kept
# description: They may hold its credentials.
mask contains "/result/headers"

# METADATA
# title: Names under which callers might send secrets
secret_names := {
	"access_token",
	"api_key",
	"apikey",
	"authorization",
	"client_secret",
	"cookie",
	"password",
	"private_key",
	"refresh_token",
	"secret",
	"token",
}
