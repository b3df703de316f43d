# METADATA
# title: Rules of our own
# schemas:
#   - input: schema.authz_input
package patrol.custom

# METADATA
# title: Nobody uses lab-1
# custom:
#   code: laboratory
#   message: This model belongs to the laboratory.
reason := rego.metadata.rule().custom if {
	input.request.entity_type == "models"
	input.request.entity == "lab-1"
}
