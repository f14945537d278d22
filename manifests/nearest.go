package manifests

import (
	"slices"
	"strings"
)

// maxTypo is the longest word that is compared letter by letter; no field of Kubernetes is near as long.
const maxTypo = 64

// nearest is the name that was most likely meant, or "" where none is close.
func nearest(word string, names []string) string {
	if len(word) > maxTypo {
		return ""
	}
	slices.Sort(names)
	best, least := "", max(2, len(word)/3)+1
	if len(word) <= 3 {
		least = 2
	}
	for _, name := range names {
		if strings.EqualFold(name, word) {
			return name
		}
		if d := distance(strings.ToLower(word), strings.ToLower(name)); d < least {
			best, least = name, d
		}
	}
	return best
}

// distance is the number of letters to add, drop, change or swap with a neighbour to get from a to b.
func distance(a, b string) int {
	from, to := []rune(a), []rune(b)
	rows := make([][]int, len(from)+1)
	for i := range rows {
		rows[i] = make([]int, len(to)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(from); i++ {
		for j := 1; j <= len(to); j++ {
			change := rows[i-1][j-1]
			if from[i-1] != to[j-1] {
				change++
			}
			rows[i][j] = min(change, rows[i-1][j]+1, rows[i][j-1]+1)
			if i > 1 && j > 1 && from[i-1] == to[j-2] && from[i-2] == to[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(from)][len(to)]
}
