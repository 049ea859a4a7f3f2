// Package scoreboard is the one file that tells what every child of a daemon is doing.
//
// The invariant: every byte has exactly one writer. The parent writes the header and the first part of each slot, the
// child that fills a slot writes the second part, and nobody takes a lock. A reader needs no daemon, no socket and no
// privilege but that of reading the file: it works when every child is busy and the parent hangs.
//
// Nothing read from the file is trusted. A child can write what it likes into its own mapping, so the parent uses what
// it finds only as a hint about that very child and never takes a length, an offset or an index from it
// (CVE-2019-0211 was exactly that trust). The parent and the readers use pread(2) and pwrite(2) instead of a mapping:
// a file that somebody cuts short is then an error of the next read and not a SIGBUS.
//
// Behind the slots lies a ring of the parent's last decisions, which outlives it: see Ring.
//
// The byte table is docs/SCOREBOARD.md; layout.go is the same table as code.
package scoreboard
