//go:build race

package sandbox

// shadowMemory says that this program reserves memory many times what it uses, as
// the race detector does: a limit on what is reserved would keep it from starting.
const shadowMemory = true
