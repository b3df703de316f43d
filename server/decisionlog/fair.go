package decisionlog

// fair is a queue of bounded size. Its room is shared: when there is none left,
// what goes is of the user who holds the most of it, and of that user's token that
// holds the most, so that no token, however busy, displaces what others have in
// it. Of one token, allowances go before denials, the newest first. It is not safe
// for concurrent use.
type fair[T any] struct {
	limit int64 // bytes
	// lost is told of each value that goes; the one that put refuses is not among
	// them.
	lost func(value *T, allowed bool)

	bytes int64
	live  int
	slots []slot[T] // in order; those before head are gone
	head  int
	base  int // the number of slots[0]

	generation uint64 // shares and holders of an earlier one hold nothing
	tokens     map[shareKey]*share
	users      map[string]*holder
	active     []*holder // those that hold something
	heaviest   *holder   // the last that was found to be; nil: look
	looked     int       // how often that was asked since
}

// slot is a value in the queue.
type slot[T any] struct {
	value   T
	of      *share
	size    int64 // 0: it is gone
	before  int   // one more than the number of the token's last one of this outcome; 0: there is none
	allowed bool
}

type shareKey struct{ user, token string }

// share is the part of one token.
type share struct {
	of         *holder
	generation uint64
	bytes      int64
	live       int
	newest     [2]int // one more than the number of the last denial and the last allowance; 0: none
	index      int    // in its holder's shares
}

// holder is the part of one user's tokens.
type holder struct {
	generation uint64
	bytes      int64
	shares     []*share // those that hold something
	index      int      // in active
}

// maxIdle bounds the empty shares that are remembered, so that those of
// busy tokens need not be made again and again.
const maxIdle = 16384

func newFair[T any](limit int64, lost func(*T, bool)) *fair[T] {
	return &fair[T]{limit: limit, lost: lost, generation: 1, tokens: map[shareKey]*share{}, users: map[string]*holder{}}
}

// put appends a value, making room for it if need be and if that is fair. It
// reports whether the value is in the queue.
func (q *fair[T]) put(value T, user, token string, allowed bool, size int64) bool {
	if size > q.limit {
		return false
	}
	s := q.share(shareKey{user, token})
	for q.bytes+size > q.limit {
		from := q.victim(s, size)
		switch {
		case from == s && (allowed || !q.drop(s, 1)):
			q.leave(s)
			return false
		case from == s:
		case q.drop(from, 1), q.drop(from, 0):
			q.leave(from)
		}
	}
	if s.live == 0 {
		q.enter(s)
	}
	if len(q.slots)-q.head > 2*q.live+1024 || q.head > len(q.slots)/2+1024 {
		q.compact()
	}
	outcome := outcomeIndex(allowed)
	q.slots = append(q.slots, slot[T]{value: value, of: s, size: size, before: s.newest[outcome], allowed: allowed})
	s.newest[outcome] = q.base + len(q.slots)
	q.bytes += size
	q.live++
	s.bytes += size
	s.live++
	s.of.bytes += size
	return true
}

func outcomeIndex(allowed bool) int {
	if allowed {
		return 1
	}
	return 0
}

// share returns what a token holds, which may be nothing.
func (q *fair[T]) share(key shareKey) *share {
	s := q.tokens[key]
	if s == nil {
		if len(q.tokens) > maxIdle+2*q.live {
			q.forget()
		}
		u := q.users[key.user]
		if u == nil {
			u = &holder{}
			q.users[key.user] = u
		}
		s = &share{of: u}
		q.tokens[key] = s
	}
	if s.generation != q.generation {
		if h := s.of; h.generation != q.generation {
			clear(h.shares)
			*h = holder{generation: q.generation, shares: h.shares[:0]}
		}
		*s = share{of: s.of, generation: q.generation}
	}
	return s
}

// forget lets go of the shares that hold nothing.
func (q *fair[T]) forget() {
	for key, s := range q.tokens {
		if s.generation != q.generation || s.live == 0 {
			delete(q.tokens, key)
		}
	}
	for user, h := range q.users {
		if h.generation != q.generation || len(h.shares) == 0 {
			delete(q.users, user)
		}
	}
}

// listed reports whether a share is one of those that hold something.
func (s *share) listed() bool { return s.index < len(s.of.shares) && s.of.shares[s.index] == s }

// enter makes a share one of those.
func (q *fair[T]) enter(s *share) {
	s.newest = [2]int{}
	if s.listed() {
		return
	}
	h := s.of
	if len(h.shares) == 0 {
		h.index = len(q.active)
		q.active = append(q.active, h)
	}
	s.index = len(h.shares)
	h.shares = append(h.shares, s)
}

// leave takes a share out of those, if it holds nothing.
func (q *fair[T]) leave(s *share) {
	h := s.of
	if s.live > 0 || !s.listed() {
		return
	}
	last := len(h.shares) - 1
	h.shares[s.index] = h.shares[last]
	h.shares[s.index].index = s.index
	h.shares[last] = nil
	h.shares = h.shares[:last]
	if last > 0 {
		return
	}
	end := len(q.active) - 1
	q.active[h.index] = q.active[end]
	q.active[h.index].index = h.index
	q.active[end] = nil
	q.active = q.active[:end]
	if q.heaviest == h {
		q.heaviest = nil
	}
}

// victim returns the share that something is to be taken from, so that size more
// bytes of s fit: the largest of the user who would have most, which may be s.
func (q *fair[T]) victim(s *share, size int64) *share {
	h := s.of
	if other := q.heaviestBut(h); other != nil && other.bytes > h.bytes+size {
		return heaviestShare(other, nil)
	}
	if other := heaviestShare(h, s); other != nil && other.bytes > s.bytes+size {
		return other
	}
	return s
}

// few is the number of users that are looked through each time that there is no room. Of more,
// the one that was found to have most is believed to for a while.
const few = 64

// heaviestBut returns the user who holds most, other than one of them, nil if there
// is none.
func (q *fair[T]) heaviestBut(h *holder) *holder {
	users := int64(len(q.active))
	if q.looked++; q.looked < few && users > few && q.heaviest != nil && q.heaviest != h && q.heaviest.bytes > q.limit/users {
		return q.heaviest
	}
	q.looked, q.heaviest = 0, nil
	for _, other := range q.active {
		if other != h && (q.heaviest == nil || other.bytes > q.heaviest.bytes) {
			q.heaviest = other
		}
	}
	return q.heaviest
}

// heaviestShare returns the largest share of a holder, other than one of them.
func heaviestShare(h *holder, but *share) (found *share) {
	for _, s := range h.shares {
		if s != but && (found == nil || s.bytes > found.bytes) {
			found = s
		}
	}
	return found
}

// drop takes the newest value of an outcome from a share. It reports whether there
// was one.
func (q *fair[T]) drop(s *share, outcome int) bool {
	number := s.newest[outcome]
	if number == 0 || number-1 < q.base+q.head { // taken since
		s.newest[outcome] = 0
		return false
	}
	at := &q.slots[number-1-q.base]
	s.newest[outcome] = at.before
	q.subtract(at)
	q.lost(&at.value, at.allowed)
	*at = slot[T]{}
	return true
}

func (q *fair[T]) subtract(at *slot[T]) {
	q.bytes -= at.size
	q.live--
	at.of.bytes -= at.size
	at.of.live--
	at.of.of.bytes -= at.size
}

// take moves the oldest values to the end of a slice, at most so many, and none after
// so many bytes.
func (q *fair[T]) take(bound int, bytes int64, into []T) []T {
	for left := q.bytes - bytes; q.head < len(q.slots) && bound > 0 && q.bytes > left; q.head++ {
		at := &q.slots[q.head]
		if at.of == nil {
			continue
		}
		into = append(into, at.value)
		q.subtract(at)
		of := at.of
		*at = slot[T]{}
		q.leave(of)
		bound--
	}
	if q.live == 0 {
		q.reset(emptied(q.slots))
	}
	return into
}

// swap returns all slots, some of which may be gone, and goes on with those it is
// given, whose content is overwritten.
func (q *fair[T]) swap(slots []slot[T]) []slot[T] {
	out := q.slots[q.head:]
	q.reset(slots[:0])
	return out
}

// reset begins anew.
func (q *fair[T]) reset(slots []slot[T]) {
	q.base += len(q.slots)
	q.slots, q.head, q.bytes, q.live, q.heaviest = slots, 0, 0, 0, nil
	q.generation++
	clear(q.active)
	q.active = q.active[:0]
	if len(q.tokens) > maxIdle {
		clear(q.tokens)
		clear(q.users)
	}
}

// compact closes the gaps that values have left.
func (q *fair[T]) compact() {
	for _, h := range q.active {
		for _, s := range h.shares {
			s.newest = [2]int{}
		}
	}
	q.base += q.head
	kept := q.slots[:0]
	for i := q.head; i < len(q.slots); i++ {
		at := q.slots[i]
		if at.of == nil {
			continue
		}
		outcome := outcomeIndex(at.allowed)
		at.before = at.of.newest[outcome]
		kept = append(kept, at)
		at.of.newest[outcome] = q.base + len(kept)
	}
	clear(q.slots[len(kept):])
	q.slots, q.head = kept, 0
}

// emptied lets go of what slots refer to, and of a slice that has grown beyond what
// is usual.
func emptied[T any](slots []slot[T]) []slot[T] {
	const usual = 16384
	if cap(slots) > usual {
		return nil
	}
	clear(slots)
	return slots[:0]
}
