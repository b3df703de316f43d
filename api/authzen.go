package api

import "patrol/models"

// The messages of OpenID AuthZEN Authorization API 1.0, as far as Patrol writes them.

// AccessDecision is a Decision (section 5.5).
type AccessDecision struct {
	Decision bool           `json:"decision"`
	Context  *AccessContext `json:"context,omitempty"`
}

// AccessContext has the reasons for a decision (section 5.5.1).
type AccessContext struct {
	DecisionID string            `json:"decision_id,omitempty"`
	Status     int               `json:"status,omitzero"` // to tell the end client: 200, 401, 403 or 503
	Reasons    []models.Reason   `json:"reasons,omitempty"`
	UserID     string            `json:"user_id,omitempty"`
	TokenID    string            `json:"token_id,omitempty"`
	Revision   string            `json:"revision,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Waived     []Waived          `json:"waived,omitempty"`
	// DependsOn are those of client, context and http that the rules looked at: with others
	// there the answer may be different.
	DependsOn []string     `json:"depends_on,omitempty"`
	Error     *AccessError `json:"error,omitempty"` // why one item of many was not judged
}

// AccessError is the error of one item (section 7.2.1).
type AccessError struct {
	Status  int    `json:"status"`
	Message string `json:"message"`
}

// AccessDecisions is the answer to several questions (section 7.2).
type AccessDecisions struct {
	Evaluations []AccessDecision `json:"evaluations"`
}

// AccessResults is the answer to a search (section 8.3).
type AccessResults struct {
	Page    AccessPage     `json:"page"`
	Context *AccessContext `json:"context,omitempty"`
	Results []AccessResult `json:"results"`
}

// AccessPage leads to the results that follow (section 8.2.2).
type AccessPage struct {
	NextToken string `json:"next_token"` // "": nothing
	Count     int    `json:"count"`
}

// AccessResult is a subject or a resource, or, with a name alone, an action.
type AccessResult struct {
	Type       string            `json:"type,omitempty"`
	ID         string            `json:"id,omitempty"`
	Name       string            `json:"name,omitempty"`
	Properties map[string]string `json:"properties,omitempty"`
}

// AccessMetadata is the metadata of the policy decision point (section 9.1).
type AccessMetadata struct {
	PolicyDecisionPoint string `json:"policy_decision_point"`
	Evaluation          string `json:"access_evaluation_endpoint"`
	Evaluations         string `json:"access_evaluations_endpoint"`
	SearchSubject       string `json:"search_subject_endpoint"`
	SearchResource      string `json:"search_resource_endpoint"`
	SearchAction        string `json:"search_action_endpoint"`
}
