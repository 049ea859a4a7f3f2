// Package compare measures package netmon against the usual ways to learn which
// connections there are, side by side in one run:
//
//	go test -bench . -benchtime 2s
//
// It is a module of its own, so that none of the others becomes a dependency of netmon.
//
// There are 20,000 sockets in the table, both ends of 10,000 connections, of which ten
// are ours: their clients have ended them. Each round takes a few looks of ours and one of
// the other, and the medians are compared: x is how many times longer the other takes, and
// goal what it should be at least (or at most, where that is said). Figures of one machine
// mean little, and ratios more. The kernel's hash table has the size of a machine with
// 16 GiB or so; with a smaller one all that reads /proc looks better.
//
// It takes root, for network namespaces of its own; without, it says so and measures
// nothing. What is not installed is skipped.
package compare
