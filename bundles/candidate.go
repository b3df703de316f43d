package bundles

import "errors"

// hold keeps what the source holds, for who wants to look at it.
func (d *Delivery) hold(b *Bundle, err error) {
	var archive []byte
	if bad, ok := errors.AsType[*BadBundleError](err); ok {
		archive = bad.Archive
	} else if err != nil {
		return // it was not reached, and may hold the same
	}
	if b != nil {
		archive = b.Archive
	}
	d.state.Lock()
	d.state.held = archive
	d.state.Unlock()
}

// Candidate returns the archive of what the source holds and is not in force; nil if
// there is none, or if it is no archive. It may be hostile: it was refused, or not judged.
func (d *Delivery) Candidate() []byte {
	d.state.Lock()
	defer d.state.Unlock()
	if d.state.source.Pending == nil {
		return nil
	}
	return d.state.held
}
