// Package manage does what can be done with users, domains, members, tokens and the policy:
// [Service.CreatePAT], [Service.SetMember], [Service.TryPolicy] and so on. It knows no HTTP
// and no pages. JSON handlers, pages and commands call the same methods.
//
// # Who may
//
// Most methods take a [models.Principal]. The route table says who may make a call; whose a
// thing is, is decided here: the store is asked for it under the caller's id, so that the
// things of others are not found.
//
// # What is checked
//
// A method checks everything about the values that it gets, and reports it all at once as a
// [models.Invalid] with the names of the API's fields. So the same mistake has the same words
// on every surface.
//
// # The only writer
//
// Nothing else in the server writes users, domains, members or tokens. Sessions, passwords,
// codes and identities are those of package identity.
package manage
