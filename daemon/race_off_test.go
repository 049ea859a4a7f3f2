//go:build !race

package daemon_test

// raceEnabled tells that processes start and run at a fraction of their speed.
const raceEnabled = false
