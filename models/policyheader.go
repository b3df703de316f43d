package models

import (
	"fmt"
	"strings"
)

// The headers that tell an upstream who is calling. They are set from the token;
// nobody else can set them.
const (
	HeaderUser    = "X-Patrol-User"
	HeaderDomain  = "X-Patrol-Domain"
	HeaderTokenID = "X-Patrol-Token-Id"
)

// CheckPolicyHeader checks a header that a policy sets for the upstream. Its name
// begins with X-Patrol- or X-Guardrails-, which Patrol takes out of every request,
// and is none of those that say who is calling: any other could replace a
// credential or frame the request in another way. It consists of letters, digits and
// hyphens, since servers that hand headers on as variables fold other characters. Its
// value is one line of text (RFC 9110 §5.5).
func CheckPolicyHeader(name, value string) error {
	lower := strings.ToLower(name)
	switch {
	case strings.Trim(lower, "abcdefghijklmnopqrstuvwxyz0123456789-") != "",
		!strings.HasPrefix(lower, "x-patrol-") && !strings.HasPrefix(lower, "x-guardrails-"):
		return fmt.Errorf("%q is neither X-Patrol-… nor X-Guardrails-…, and not a policy's to set", name)
	case strings.EqualFold(name, HeaderUser), strings.EqualFold(name, HeaderDomain), strings.EqualFold(name, HeaderTokenID):
		return fmt.Errorf("%q is set from the token", name)
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
		return fmt.Errorf("the value of %q is not text on one line", name)
	}
	return nil
}

// CheckPolicyHeaders applies [CheckPolicyHeader] to each header. The engine has done
// so where it read a decision; who sets headers does it again.
func CheckPolicyHeaders(headers map[string]string) error {
	for name, value := range headers {
		if err := CheckPolicyHeader(name, value); err != nil {
			return fmt.Errorf("header %w", err)
		}
	}
	return nil
}
