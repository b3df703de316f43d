package authz

// baseSize is the size of a decision without a context in a buffer.
const baseSize = 640

// Size estimates, in bytes, what the record holds on to, without its shared facts.
func (r *Record) Size() int64 {
	n := int64(baseSize + len(r.Path) + len(r.RequestID))
	for _, reason := range r.Decision.Reasons {
		n += int64(len(reason.Message)) + 48
	}
	for name, value := range r.Decision.Headers {
		n += int64(len(name)+len(value)) + 64
	}
	for name, value := range r.Request.Context {
		n += int64(len(name)) + 64 + sizeOfValue(value)
	}
	return n
}

func sizeOfValue(v any) int64 {
	const header = 32
	switch v := v.(type) {
	case string:
		return header + int64(len(v))
	case []any:
		n := int64(header)
		for _, x := range v {
			n += sizeOfValue(x)
		}
		return n
	case map[string]any:
		n := int64(header)
		for k, x := range v {
			n += int64(len(k)) + 2*header + sizeOfValue(x)
		}
		return n
	}
	return header
}
