package ui

import (
	"container/list"
	"crypto/rand"
	"sync"
)

// Once sees to it that a form which makes something makes one thing, however
// often it is sent: by a second click, a reload or the Back button. It remembers
// the keys of the newest forms that were sent and what they made, never a
// secret. It is safe for concurrent use.
//
// The memory is this process's. Two processes that get the same form at the same
// time still make one token: names are unique among live ones.
type Once struct {
	mu    sync.Mutex
	size  int
	order *list.List // of *sent, newest first
	byKey map[string]*list.Element
}

type sent struct {
	key  string
	made string
	done chan struct{} // closed when made is known
}

// maxKey bounds what is remembered of a form.
const maxKey = 64

// NewOnce remembers as many forms as size.
func NewOnce(size int) *Once {
	return &Once{size: size, order: list.New(), byKey: map[string]*list.Element{}}
}

// Key draws the key of a new form.
func (*Once) Key() string { return rand.Text() }

// Do calls work unless the form with this key was sent before, and returns what
// was made and whether it was made now. A call for a key that is at work waits
// for it. If work fails, the form can be sent again. Keys are the user's own:
// owner keeps those of different users apart.
func (o *Once) Do(owner, key string, work func() (id string, err error)) (id string, first bool, err error) {
	if key == "" || len(key) > maxKey { // not one of ours: nothing to compare it with
		key = o.Key()
	}
	key = owner + "\x00" + key
	for {
		o.mu.Lock()
		element, found := o.byKey[key]
		if !found {
			break
		}
		s := element.Value.(*sent)
		o.mu.Unlock()
		<-s.done
		if s.made != "" {
			return s.made, false, nil
		}
	}
	s := &sent{key: key, done: make(chan struct{})}
	o.byKey[key] = o.order.PushFront(s)
	for o.order.Len() > o.size {
		oldest := o.order.Back()
		delete(o.byKey, o.order.Remove(oldest).(*sent).key)
	}
	o.mu.Unlock()

	defer func() { // whatever happens, nobody waits for ever
		o.mu.Lock()
		s.made = id
		if element, found := o.byKey[key]; s.made == "" && found && element.Value == s {
			o.order.Remove(element)
			delete(o.byKey, key)
		}
		o.mu.Unlock()
		close(s.done)
	}()
	if id, err = work(); err != nil {
		return "", true, err
	}
	return id, true, nil
}
