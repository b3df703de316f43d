# METADATA
# title: Authorization
# description: |
#   Judges whether a personal access token may do what is asked. `decision` is the
#   one document that the server reads. A token narrows what its owner may do and
#   never grants, so all that is proven below must hold, on current facts.
#
#   Every reason to deny negates something proven. A fact that is absent, or of
#   another type than it should be, proves nothing and so denies.
# schemas:
#   - input: schema.authz_input
#   - data.patrol.catalog: schema.catalog
package patrol.authz

# METADATA
# title: The decision
# description: |
#   Allowed, with the id of the scope that grants it, exactly when there is no reason to
#   deny; else denied with every reason that counts. Nothing else decides.
# entrypoint: true
decision := object.union(answer, extras)

# METADATA
# title: The answer
answer := {"allow": true, "reasons": [], "scope": granting_scope} if {
	reasons == set()
} else := {"allow": false, "reasons": [reason | some reason in reasons]}

# METADATA
# title: What else is told
# description: Labels, from text to text, go into the answer, the log and Envoy's metadata.
extras["labels"] := data.patrol.custom.labels

# METADATA
# title: The reasons that are reported
# description: |
#   Whoever is not authenticated learns nothing else. After an operation that does
#   not exist, or a domain that does not, there is nothing else to say.
reasons := unauthenticated if {
	unauthenticated != set()
} else := unknown if {
	unknown != set()
} else := forbidden

###############################################################################
# Who asks: 401
###############################################################################

# METADATA
# title: The token was revoked
# custom:
#   code: token_revoked
#   message: This access token was revoked.
unauthenticated contains rego.metadata.rule().custom if not token_unrevoked

# METADATA
# title: The token has expired
# custom:
#   code: token_expired
#   message: This access token has expired.
unauthenticated contains rego.metadata.rule().custom if not token_unexpired

# METADATA
# title: The token's owner may not use Patrol any more
# custom:
#   code: user_disabled
#   message: The account of this access token's owner is disabled or gone.
unauthenticated contains rego.metadata.rule().custom if not user_enabled

# METADATA
# title: The token is not revoked
token_unrevoked if input.token.revoked == false

# METADATA
# title: The token is not expired
# description: Rego orders values of different types (null < 5 is true), hence the guards.
token_unexpired if {
	is_number(input.now)
	is_number(input.token.expires_at)
	input.now < input.token.expires_at
}

# METADATA
# title: The owner exists and is not disabled
user_enabled if input.user.disabled == false

###############################################################################
# What is asked for: 403, nothing else reported
###############################################################################

# METADATA
# title: There is no such operation
# custom:
#   code: unknown_operation
#   message: This entity type does not exist or has no such operation.
unknown contains rego.metadata.rule().custom if not operation_exists

# METADATA
# title: There is no such domain
# description: It is only looked at when the operation exists, since unknown_operation stands alone.
# custom:
#   code: domain_unknown
#   message: This domain does not exist.
unknown contains rego.metadata.rule().custom if {
	operation_exists
	not domain_exists
}

# METADATA
# title: The catalog has this operation
operation_exists if data.patrol.catalog.entity_types[input.request.entity_type].operations[input.request.operation]

# METADATA
# title: The domain is known
domain_exists if {
	is_string(input.request.domain)
	input.domain.id == input.request.domain
	input.domain.status in {"enabled", "disabled", "frozen"}
}

###############################################################################
# Whether it is theirs to do: 403
###############################################################################

# METADATA
# title: The domain is disabled
# custom:
#   code: domain_disabled
#   message: This domain is disabled. Only its admins and platform admins get in.
forbidden contains rego.metadata.rule().custom if {
	not domain_admits_user
	input.domain.status == "disabled"
}

# METADATA
# title: The domain is frozen
# custom:
#   code: domain_frozen
#   message: This domain is frozen. Only platform admins get in.
forbidden contains rego.metadata.rule().custom if {
	not domain_admits_user
	input.domain.status == "frozen"
}

# METADATA
# title: The owner is not a member
# custom:
#   code: not_a_member
#   message: The access token's owner is not a member of this domain.
forbidden contains rego.metadata.rule().custom if not belongs_to_domain

# METADATA
# title: The owner's role does not permit it
# description: Nothing is said of the role of somebody who has none.
# custom:
#   code: role_forbids
#   message: The role of the access token's owner in this domain does not permit this.
forbidden contains rego.metadata.rule().custom if {
	belongs_to_domain
	not operation_permitted
}

# METADATA
# title: No scope of the token covers it
# custom:
#   code: out_of_scope
#   message: None of the access token's scopes covers this.
forbidden contains rego.metadata.rule().custom if not granting_scope

# METADATA
# title: The domain has withdrawn the token
# custom:
#   code: withdrawn
#   message: This domain has withdrawn this access token. It works elsewhere as before; one of the domain's admins or a platform admin can let it in again.
forbidden contains rego.metadata.rule().custom if not unwithdrawn

# METADATA
# title: The token is not for the client's address
# custom:
#   code: ip_forbidden
#   message: This access token may not be used from this address. Its owner chose those from which it may.
forbidden contains rego.metadata.rule().custom if not address_allowed

# METADATA
# title: A limit of the domain is against it
# description: |
#   A domain without limits has no such fact, or null; whatever else stands there must
#   be kept. Nothing is said of limits to who is not a member, or of what no scope
#   covers anyway.
forbidden contains reason if {
	input.domain.limits != null
	belongs_to_domain
	granting_scope
	some reason in broken_limits
}

# METADATA
# title: A rule of one's own is against it
# description: See "A rule of your own" in the README of this bundle, which has none.
forbidden contains reason if some reason in data.patrol.custom.deny

# METADATA
# title: A rule of one's own, in the old form, is against it
# description: One value and not a set; bundles from before there was `deny` have it.
forbidden contains data.patrol.custom.reason

# METADATA
# title: The domain's status lets the owner in
domain_admits_user if input.domain.status == "enabled"

domain_admits_user if {
	input.domain.status == "disabled"
	data.patrol.roles[input.membership.role].domains.write == true
}

domain_admits_user if {
	input.domain.status in {"disabled", "frozen"}
	input.user.admin == true
}

domain_admits_user if {
	input.domain.status == "disabled"
	"domain_disabled" in waived
}

domain_admits_user if {
	input.domain.status == "frozen"
	"domain_frozen" in waived
}

# METADATA
# title: The domain has not withdrawn the token
# description: The fact is absent where no domain has. Whatever it has under the domain counts.
unwithdrawn if not withdrawn_anywhere

unwithdrawn if {
	is_object(input.token.withdrawn)
	not withdrawn_here
}

# METADATA
# title: Some domain has withdrawn the token
withdrawn_anywhere if _ = input.token.withdrawn

# METADATA
# title: This domain has
withdrawn_here if _ = input.token.withdrawn[input.request.domain]

# METADATA
# title: The token may be used from the client's address
# description: |
#   The fact is absent where it may be used from everywhere. What is no range, or no
#   address, proves nothing.
address_allowed if not addresses_limited

address_allowed if {
	some range in input.token.allowed_ips
	is_string(input.client.ip)
	net.cidr_is_valid(concat("/", [input.client.ip, "32"]))
	net.cidr_is_valid(range)
	net.cidr_contains(range, input.client.ip)
}

# METADATA
# title: The token may be used from some addresses alone
addresses_limited if _ = input.token.allowed_ips

# METADATA
# title: The owner is a member, or need not be one
belongs_to_domain if is_string(input.membership.role)

belongs_to_domain if input.user.admin == true

belongs_to_domain if "not_a_member" in waived

# METADATA
# title: The owner's role permits the operation
# description: A platform admin may do whatever the catalog has.
operation_permitted if {
	data.patrol.roles[input.membership.role][input.request.entity_type][input.request.operation] == true
}

operation_permitted if input.user.admin == true

operation_permitted if "role_forbids" in waived

###############################################################################
# The limits that a domain sets itself: 403
###############################################################################

# METADATA
# title: The token is older than the domain allows
# custom:
#   code: lifetime_exceeded
#   message: This domain takes access tokens for a shorter time after their creation. Rotate the token.
broken_limits contains rego.metadata.rule().custom if not lifetime_kept

# METADATA
# title: The domain takes no wildcards
# custom:
#   code: wildcard_forbidden
#   message: This domain takes no wildcards. A scope has to name both the domain and the entity.
broken_limits contains rego.metadata.rule().custom if not named_by_scope

# METADATA
# title: The domain has not approved the token
# custom:
#   code: approval_required
#   message: This domain has not approved this access token, or not with the scopes that it has now. One of its admins can.
broken_limits contains rego.metadata.rule().custom if not approved

# METADATA
# title: The token is young enough for the domain
lifetime_kept if input.domain.limits.max_lifetime == 0

lifetime_kept if {
	is_number(input.now)
	is_number(input.token.created_at)
	is_number(input.domain.limits.max_lifetime)
	input.now < input.token.created_at + input.domain.limits.max_lifetime
}

lifetime_kept if "lifetime_exceeded" in waived

# METADATA
# title: A scope names the domain and the entity, or need not
named_by_scope if input.domain.limits.wildcards == true

named_by_scope if "wildcard_forbidden" in waived

named_by_scope if {
	input.request.domain != "*"
	input.request.entity != "*"
	id := input.token.scopes[input.request.domain][input.request.entity_type][input.request.operation][input.request.entity]
	is_string(id)
	id != ""
}

# METADATA
# title: The domain has approved the token, or need not
approved if input.domain.limits.approval == false

approved if is_number(input.token.approvals[input.request.domain])

approved if "approval_required" in waived

###############################################################################
# Exceptions, and what is granted
###############################################################################

# METADATA
# title: The reasons that exceptions lift
# description: |
#   See "An exception" in the README of this bundle, which makes none. An exception ends,
#   and at most 90 days from now; the server compares once more, and knows which reasons
#   can be lifted at all.
waived contains exception.code if {
	some exception in data.patrol.custom.waive
	is_number(input.now)
	is_number(exception.until)
	input.now < exception.until
	exception.until <= input.now + (((90 * 24) * 60) * 60)
}

# METADATA
# title: The id of the scope that grants the request
# description: |
#   If several do, the most specific one, domain before entity. A request for the
#   entity "*", the collection, is granted only by a scope for the entity "*": the
#   look-up by the request's own entity sees to that. For the entity type `domains`
#   the entity is the domain itself, so no scope covers another.
granting_scope := [id |
	is_string(input.request.entity)
	input.request.entity == object.get({"domains": input.request.domain}, input.request.entity_type, input.request.entity)
	some domain in [input.request.domain, "*"]
	some entity in [input.request.entity, "*"]
	id := input.token.scopes[domain][input.request.entity_type][input.request.operation][entity]
	is_string(id)
	id != ""
][0]
