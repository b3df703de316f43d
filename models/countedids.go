package models

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"strings"
	"time"
)

// DecisionIDTime returns when the decision with this id was made, to the
// millisecond. ok is false for what is no id of a decision.
func DecisionIDTime(id string) (at time.Time, ok bool) {
	if len(id) != IDLength {
		return at, false
	}
	var ms int64
	for i := range len(id) {
		digit := strings.IndexByte(base62, id[i])
		if digit < 0 {
			return at, false
		}
		if i < timeLength {
			ms = ms*int64(len(base62)) + int64(digit)
		}
	}
	return time.UnixMilli(ms).UTC(), true
}

const (
	markLength     = 4 // base62 characters, 24 bits: a random id has the mark of a counted one once in 15 million
	markedFrom     = IDLength - markLength
	countedKeySalt = "patrol: ids of decisions that are counted, not kept\x00"
)

// CountedIDs makes ids for decisions that are counted and not kept, and knows them
// again: they end in a mark that only the key gives. For the rest they are as other
// ids are, and nobody without the key can tell them apart.
type CountedIDs struct{ block cipher.Block }

// NewCountedIDs returns the ids of a key, of any length.
func NewCountedIDs(key []byte) CountedIDs {
	derived := sha256.Sum256(append([]byte(countedKeySalt), key...))
	block, err := aes.NewCipher(derived[:16])
	if err != nil { // 16 bytes are a key
		panic(err)
	}
	return CountedIDs{block}
}

// New draws the id of a decision made at now.
func (c CountedIDs) New(now time.Time) string {
	random, err := randomBase62(rand.Reader, markedFrom-timeLength)
	if err != nil { // as in NewDecisionID
		panic(err)
	}
	id := DecisionIDsFrom(now) + random
	mark := c.mark(id)
	return id + string(mark[:])
}

// Made reports whether an id is one of these.
func (c CountedIDs) Made(id string) bool {
	if len(id) != IDLength {
		return false
	}
	mark := c.mark(id[:markedFrom])
	return subtle.ConstantTimeCompare(mark[:], []byte(id[markedFrom:])) == 1
}

// mark is the mark of what an id begins with.
func (c CountedIDs) mark(begin string) (mark [markLength]byte) {
	var block [aes.BlockSize]byte
	copy(block[:], begin)
	c.block.Encrypt(block[:], block[:])
	n := binary.BigEndian.Uint64(block[:])
	for i := range mark {
		mark[i] = base62[n%uint64(len(base62))]
		n /= uint64(len(base62))
	}
	return mark
}
