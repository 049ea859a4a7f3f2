//go:build !brood_next

package inherit

const (
	oldest = 4
	newest = 4
)

// more is what a child's claim says beyond the agreement 4.
func more(uint64) string { return "" }
