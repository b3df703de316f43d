package endpoint

// SignIn is the maximum age of a caller's sign-in on a route, or the reason why there is none.
// It is a closed set. The zero value declares nothing, and the router refuses a route with
// it.
//
// A session can be stolen. What it gives for long must not be had with an old one: a route
// that widens anybody's power or removes a protection is FreshAdmin, whoever calls it. What
// takes power away is for the moment in which something is wrong, and waits for nothing.
type SignIn int

// The ages of a sign-in.
const (
	Undeclared SignIn = iota
	// NoSession is for routes that no session is needed for, or that begin one: a
	// password, a code or a token in the request is the proof.
	NoSession
	// AnyAgeToRead is for routes that change nothing that counts.
	AnyAgeToRead
	// AnyAgeToNarrow is for routes that only take power away.
	AnyAgeToNarrow
	// AnyAgeForOwn is for routes on the caller's own things that widen nothing.
	AnyAgeForOwn
	// FreshOwn needs a sign-in within sessions.fresh_sign_in.
	FreshOwn
	// FreshOwnToWiden is FreshOwn for some of what the route does: the handler asks for it,
	// unless the request widens nothing.
	FreshOwnToWiden
	// FreshByForm is FreshOwn, or the password in a field of the form: the handler
	// asks for it before it does anything.
	FreshByForm
	// FreshAdmin needs a sign-in within sessions.fresh_admin.
	FreshAdmin
	// FreshAdminToWiden is FreshAdmin for some of what the route does: the handler asks
	// for it, unless the request only takes power away.
	FreshAdminToWiden
)

// ConfirmField is the field of a form with the password that makes a sign-in recent. It
// may come with the form of every page that asks for one; see [SignIn].
const ConfirmField = "confirm_password"

// Confirms reports whether the password may come with a form of the route.
func (r *Route) Confirms() bool {
	return r.Page && (r.SignIn == FreshOwn || r.SignIn == FreshOwnToWiden || r.SignIn == FreshAdmin || r.SignIn == FreshAdminToWiden)
}
