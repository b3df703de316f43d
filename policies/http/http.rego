# METADATA
# title: Routes
# schemas:
#   - input: schema.http_input
package patrol.http

# METADATA
# entrypoint: true
request := {"domain": "", "entity_type": "models", "entity": "*", "operation": "read"} if input.http.method == "x"
