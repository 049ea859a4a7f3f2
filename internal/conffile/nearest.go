package conffile

import "strings"

// Nearest returns the one of words, which are in lower case, that somebody has most likely meant who has written word; empty: it is like
// none of them. Of several the first counts.
func Nearest(word string, words []string) string {
	nearest, least := "", len(word)/3+2 // a slip or two, and one more for each three letters
	for _, w := range words {
		// One of which hardly a letter is left is another word.
		if d := distance(strings.ToLower(word), w); d < least && d < len(w)-1 {
			nearest, least = w, d
		}
	}
	return nearest
}

// distance is the number of letters that have to be put in, taken out or exchanged to make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
