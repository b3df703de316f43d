package patrol.log_test

import data.patrol.log

test_secrets_in_a_context_are_not_kept if {
	every name in ["password", "token", "authorization", "api_key"] {
		concat("", ["/input/request/context/", name]) in log.mask
	}
}

test_headers_for_the_upstream_are_not_kept if "/result/headers" in log.mask

test_what_a_decision_is_made_on_is_kept if {
	every path in log.mask {
		not startswith(path, "/input/token")
		not startswith(path, "/input/user")
		not startswith(path, "/input/membership")
	}
}
