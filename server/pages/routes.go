package pages

import (
	"slices"

	"patrol/server/endpoint"
)

// Routes are the routes for people.
func (s *Surface) Routes() []endpoint.Route {
	return slices.Concat(s.pageRoutes(), s.advicePages(), s.playgroundPages(), s.purgePageRoutes(), s.policyPageRoutes(), s.decisionPageRoutes(), s.historyPageRoutes(), s.shadowPageRoutes(),
		s.adminRoutes(), s.resetPages(), s.oidcRoutes(), s.identityPages(), s.codeRoutes(), s.confirmRoutes(), s.dataPages())
}
