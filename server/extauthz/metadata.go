package extauthz

import "google.golang.org/protobuf/types/known/structpb"

// metadata is the data for access logs, rate limits and later filters, in the
// namespace envoy.filters.http.ext_authz. Names are stable. Nothing in it comes
// from the client unjudged.
func (v *verdict) metadata(dry bool) *structpb.Struct {
	fields := make(map[string]*structpb.Value, 10)
	put := func(name, value string) {
		if value == "" {
			return
		}
		v := new(struct { // in one piece
			value structpb.Value
			text  structpb.Value_StringValue
		})
		v.text.StringValue = value
		v.value.Kind = &v.text
		fields[name] = &v.value
	}
	d := &v.Decision
	put("decision_id", d.ID)
	put("user", d.UserID)
	put("token_id", d.TokenID)
	put("scope", d.ScopeID)
	put("revision", d.Revision)
	fields["allowed"] = structpb.NewBoolValue(d.Allowed)
	if d.Allowed {
		put("domain", v.Request.Domain)
	} else {
		put("reason", v.Reason())
	}
	if len(d.Labels) > 0 {
		labels := make(map[string]*structpb.Value, len(d.Labels))
		for name, value := range d.Labels {
			labels[name] = structpb.NewStringValue(value)
		}
		fields["labels"] = structpb.NewStructValue(&structpb.Struct{Fields: labels})
	}
	if len(d.Waived) > 0 {
		waived := make([]*structpb.Value, len(d.Waived))
		for i, w := range d.Waived {
			waived[i] = structpb.NewStringValue(string(w.Code))
		}
		fields["waived"] = structpb.NewListValue(&structpb.ListValue{Values: waived})
	}
	if dry {
		fields["dry_run"] = structpb.NewBoolValue(true)
		fields["would_be_status"] = structpb.NewNumberValue(float64(v.Status()))
	}
	return &structpb.Struct{Fields: fields}
}
