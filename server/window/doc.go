// Package window counts events in sliding windows of time, for limits: failures by address,
// trials by user. What it remembers is bounded; the key that was unused for longest is
// forgotten first. The caller sees to locking.
package window
