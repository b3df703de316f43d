//go:build !race

package sandbox

// shadowMemory says that this program reserves memory many times what it uses.
const shadowMemory = false
