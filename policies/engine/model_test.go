package engine_test

import (
	"net"
	"slices"

	"patrol/models"
)

// judge is section 2 of the design in plain Go, written from its text and not from
// the Rego. It returns why input is denied, nothing if it is allowed, and the
// scope that grants it.
func judge(input any, roles map[string]models.Role, catalog models.Catalog) (reasons []models.ReasonCode, scope string) {
	// Tokens, users and memberships.
	if v, ok := at(input, "token", "revoked").(bool); !ok || v {
		reasons = append(reasons, models.TokenRevoked)
	}
	now, nowIsNumber := number(at(input, "now"))
	if end, ok := number(at(input, "token", "expires_at")); !ok || !nowIsNumber || now >= end {
		reasons = append(reasons, models.TokenExpired)
	}
	if v, ok := at(input, "user", "disabled").(bool); !ok || v {
		reasons = append(reasons, models.UserDisabled)
	}
	if len(reasons) > 0 {
		return sorted(reasons), ""
	}

	// Requests.
	entityType, _ := at(input, "request", "entity_type").(string)
	operation, _ := at(input, "request", "operation").(string)
	if _, ok := catalog.EntityTypes[entityType].Operations[operation]; !ok {
		return []models.ReasonCode{models.UnknownOperation}, ""
	}
	domain, ok1 := at(input, "request", "domain").(string)
	id, ok2 := at(input, "domain", "id").(string)
	status, _ := at(input, "domain", "status").(string)
	known := status == "enabled" || status == "disabled" || status == "frozen"
	if !ok1 || !ok2 || id != domain || !known {
		return []models.ReasonCode{models.DomainUnknown}, ""
	}

	// Whether it is theirs to do.
	admin, _ := at(input, "user", "admin").(bool)
	role, isMember := at(input, "membership", "role").(string)
	if !admin {
		if status == "disabled" && !roles[role].AdministersDomain() {
			reasons = append(reasons, models.DomainDisabled)
		}
		if status == "frozen" {
			reasons = append(reasons, models.DomainFrozen)
		}
		if !isMember {
			reasons = append(reasons, models.NotAMember)
		} else if !roles[role].Permits(entityType, operation) {
			reasons = append(reasons, models.RoleForbids)
		}
	}
	entity, isEntity := at(input, "request", "entity").(string)
	if isEntity && (entityType != "domains" || entity == domain) {
		for _, d := range []string{domain, "*"} {
			for _, e := range []string{entity, "*"} {
				if id, ok := at(input, "token", "scopes", d, entityType, operation, e).(string); ok && scope == "" {
					scope = id
				}
			}
		}
	}
	if scope == "" {
		reasons = append(reasons, models.OutOfScope)
	}
	if token, _ := at(input, "token").(map[string]any); token != nil {
		if withdrawn, there := token["withdrawn"]; there {
			from, whole := withdrawn.(map[string]any)
			if _, here := from[domain]; here || !whole {
				reasons = append(reasons, models.Withdrawn)
			}
		}
	}
	if token, _ := at(input, "token").(map[string]any); token != nil {
		if allowed, there := token["allowed_ips"]; there && !fromAllowed(allowed, at(input, "client", "ip")) {
			reasons = append(reasons, models.IPForbidden)
		}
	}
	if limits := at(input, "domain", "limits"); limits != nil && scope != "" && (admin || isMember) {
		reasons = append(reasons, brokenLimits(input, limits)...)
	}
	if len(reasons) > 0 {
		return sorted(reasons), ""
	}
	return nil, scope
}

// fromAllowed reports whether a range of the list contains the address.
func fromAllowed(allowed, ip any) bool {
	ranges, _ := allowed.([]any)
	text, _ := ip.(string)
	addr := net.ParseIP(text)
	return addr != nil && slices.ContainsFunc(ranges, func(one any) bool {
		text, _ := one.(string)
		_, network, err := net.ParseCIDR(text)
		return err == nil && network.Contains(addr)
	})
}

// brokenLimits is decision record 0011 in plain Go: the limits of the domain that
// the token does not keep. What is no such limit is not kept.
func brokenLimits(input, limits any) (reasons []models.ReasonCode) {
	most, hasMost := number(at(limits, "max_lifetime"))
	now, hasNow := number(at(input, "now"))
	made, hasMade := number(at(input, "token", "created_at"))
	if young := hasMost && hasNow && hasMade && now < made+most; !young && (!hasMost || most != 0) {
		reasons = append(reasons, models.LifetimeExceeded)
	}
	r, _ := at(input, "request").(map[string]any)
	domain, _ := r["domain"].(string)
	entityType, _ := r["entity_type"].(string)
	entity, _ := r["entity"].(string)
	operation, _ := r["operation"].(string)
	id, _ := at(input, "token", "scopes", domain, entityType, operation, entity).(string)
	named := id != "" && domain != "*" && entity != "*"
	if at(limits, "wildcards") != true && !named {
		reasons = append(reasons, models.WildcardForbidden)
	}
	if _, approved := number(at(input, "token", "approvals", domain)); at(limits, "approval") != false && !approved {
		reasons = append(reasons, models.ApprovalRequired)
	}
	return reasons
}

func number(v any) (float64, bool) {
	switch v := v.(type) {
	case int:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

func sorted(codes []models.ReasonCode) []models.ReasonCode {
	slices.Sort(codes)
	return codes
}
