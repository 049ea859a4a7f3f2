//go:build !race

package test

// raceEnabled says that the programs under test are to be built with the race detector, as this test was.
const raceEnabled = false
