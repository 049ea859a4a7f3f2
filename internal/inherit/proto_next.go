//go:build brood_next

package inherit

// This is the program's make-believe successor, for tests of parents and children of different builds: it knows an agreement
// more, in which a child's claim has one more field.
const (
	oldest = 5
	newest = 6
)

func more(proto uint64) string {
	if proto >= 6 {
		return ":1"
	}
	return ""
}
