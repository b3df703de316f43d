package engine

// Source is a policy bundle as it was read, before anything in it is understood:
// what package bundles hands over.
type Source struct {
	// Name says in messages where the bundle comes from, such as a folder's path.
	Name string
	// Files are the bundle's files by slash-separated path relative to its root.
	Files map[string][]byte
}
