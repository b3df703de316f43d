package request

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"patrol/models"
)

const (
	// maxMessage bounds a message, and maxReasons how many reasons it names; the
	// document has all of them.
	maxMessage = 900
	maxReasons = 3
)

// message says who was refused what, why, and what to do about it. status is that
// of the reasons that count.
func (r Refusals) message(status int, why Refusal) string {
	var said, mends []string
	for _, reason := range why.Decision.Reasons {
		if reason.Code.Status() != status {
			continue
		}
		if text := sentence(shorten(reason.Message, maxMessage/2)); text != "" && len(said) < maxReasons && !slices.Contains(said, text) {
			said = append(said, text)
		}
		if mend := r.mend(reason.Code, why); mend != "" && len(mends) < maxReasons && !slices.Contains(mends, mend) {
			mends = append(mends, mend)
		}
	}
	if asked := what(why); asked != "" {
		said = append(said, asked)
	}
	return models.MaskTokens(shorten(strings.Join(append(said, mends...), " "), maxMessage))
}

// sentence makes text end as a sentence does.
func sentence(text string) string {
	text = clean(text)
	if last, _ := utf8.DecodeLastRuneInString(text); text == "" || strings.ContainsRune(".!?…", last) {
		return text
	}
	return text + "."
}

// clean makes text fit for one line on anybody's screen: no tokens, no control
// characters, and none that turn the order of what follows.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r):
			return ' '
		case unicode.Is(unicode.Bidi_Control, r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	return models.MaskTokens(strings.Join(strings.Fields(text), " "))
}

// what says who asked for what, "" if that is not known or not to be told: a
// caller whose token did not verify learns nothing, and what is not valid is not
// repeated.
func what(why Refusal) string {
	id, asked := why.Decision.TokenID, why.Asked
	switch {
	case id == "":
		return ""
	case asked.Validate() != nil:
		return "The request came with token " + id + "."
	case asked.Entity == models.Any:
		return "Token " + id + " asked for " + asked.Operation + " on all " + asked.EntityType + " in domain " + asked.Domain + "."
	}
	return "Token " + id + " asked for " + asked.Operation + " on " + asked.EntityType + " " + asked.Entity + " in domain " + asked.Domain + "."
}

// mend says what to do about a reason, "" if there is nothing to say beyond its
// message.
func (r Refusals) mend(code models.ReasonCode, why Refusal) string {
	domain := "the domain"
	if why.Asked.Validate() == nil {
		domain = "domain " + why.Asked.Domain
	}
	switch code {
	case models.TokenMissing:
		return "Tokens are created at " + r.page("/profile/pats/new") + "."
	case models.TokenMalformed, models.TokenUnknown:
		return "Check that the whole token was copied, or create another at " + r.page("/profile/pats/new") + "."
	case models.TokenRevoked, models.TokenExpired:
		return "Create another token at " + r.page("/profile/pats/new") + "."
	case models.UserDisabled:
		return "A platform admin can enable the account."
	case models.DomainUnknown:
		return "Check the domain in the URL."
	case models.DomainDisabled, models.DomainFrozen:
		return "A platform admin can enable " + domain + "."
	case models.NotAMember:
		return "An admin of " + domain + " can add the token's owner as a member."
	case models.RoleForbids:
		return "An admin of " + domain + " can give the token's owner a role that permits it."
	case models.OutOfScope, models.WildcardForbidden:
		if why.Asked.Validate() != nil {
			return "Create a token with the scope that is needed at " + r.page("/profile/pats/new") + "."
		}
		return "Create a token with the scope " + why.Asked.Scope() + " at " + r.page("/profile/pats/new") + "."
	case models.LifetimeExceeded:
		return "Create a token that lives shorter, or rotate this one, at " + r.page("/profile/pats") + "."
	case models.ApprovalRequired:
		return "An admin of " + domain + " can approve token " + why.Decision.TokenID + "."
	case models.Withdrawn:
		return "An admin of " + domain + " can say why, and allow the token again."
	case models.IPForbidden:
		return "Call from an address that the token allows, or create one for this address at " + r.page("/profile/pats/new") + "."
	case models.UnknownOperation:
		return "The team that keeps the policy can add entity types and operations to the catalog."
	case models.RouteUnmapped:
		return "Check method and path. The team that keeps the policy can add a route."
	case models.BodyInvalid:
		return "Mend the body and send it again."
	case models.BodyTooLarge:
		return "Send a smaller body, or ask the operator for a higher limit."
	case models.EncodingUnsupported:
		return "Send the body as UTF-8 and without Content-Encoding."
	case models.RateLimited:
		return "Wait for as long as Retry-After says."
	case models.PolicyError:
		return "The operator can find the cause in the log under decision " + why.Decision.ID + "."
	case models.Unavailable:
		return ""
	}
	return "The team that keeps the policy can say more about " + string(code) + "."
}

// page returns the address of one of the pages.
func (r Refusals) page(path string) string {
	if r.Pages == "" {
		return "Patrol's page " + path
	}
	return strings.TrimSuffix(r.Pages, "/") + path
}
