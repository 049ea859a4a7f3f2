//go:build !brood_next

package inherit

const (
	oldest = 5
	newest = 5
)

// more is what a child's claim says beyond the agreement 5.
func more(uint64) string { return "" }
