package engine_test

import (
	"patrol/policies/engine/enginetest"
)

// Short names that the tests of policies share.
var (
	bundle          = enginetest.Bundle
	load            = enginetest.Load
	now             = enginetest.Now
	readModel       = enginetest.ReadModel
	pat             = enginetest.PAT
	user            = enginetest.User
	admin           = enginetest.Admin
	facts           = enginetest.Facts
	in              = enginetest.In
	as              = enginetest.As
	codes           = enginetest.Codes
	naming          = enginetest.Naming
	asks            = enginetest.Asks
	edited          = enginetest.Edited
	generate        = enginetest.Generate
	generateLimited = enginetest.GenerateLimited
	limit           = enginetest.Limit
	at              = enginetest.At
)
