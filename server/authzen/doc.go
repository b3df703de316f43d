// Package authzen answers services that speak OpenID AuthZEN Authorization API 1.0: whether a
// subject may do something (sections 6 and 7), and which subjects, resources and actions there
// are for which somebody may (section 8).
//
// A subject is a user, by id or email address, or a token, by its text or its id. The type of
// a resource is an entity type, its id an entity, and its property `domain` the domain. An action
// is an operation. The caller shows a token whose scope covers `<domain>:decisions:*:evaluate`,
// as the policy in force judges it for the domain of each resource.
//
// Every answer is a decision of the policy on what the store says. What a caller says about a
// subject, a resource or an action is no fact: it reaches the policy as `request.context`.
package authzen
