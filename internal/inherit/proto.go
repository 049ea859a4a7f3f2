//go:build !brood_next

package inherit

const (
	oldest = 3
	newest = 3
)

// more is what a child's claim says beyond the agreement 3.
func more(uint64) string { return "" }
