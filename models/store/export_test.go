package store

// For the tests, which are outside of the package.
const MaxUses = maxUses

var CursorOf = newCursor
