// Package pidfile keeps at most one holder of a path at a time, and says who that is without ever pointing at a stranger.
//
// The invariant: whoever holds the flock on the file that lies at the path is the running daemon. What the file says is a
// hint for people and tools, and every hint is checked (process id, start time, boot id) before it is believed. So a file
// left by a crash, an empty file, garbage, and the number of some other live program are all the same: stale, and written over.
//
// The content is "pid\nstart=starttime boot=bootid\n": the process id in decimal, field 22 of /proc/PID/stat (clock ticks
// between boot and the start of the process, proc_pid_stat(5)), and /proc/sys/kernel/random/boot_id (random(4)). The three
// together name one process for all time; the id alone is reused. It stands alone on the first line, where service managers look
// for it, and nothing else in the file is a number by itself: "kill $(cat pidfile)" must not hit a stranger.
//
// # What is refused, and why
//
// Whoever can replace or edit a daemon's pidfile chooses which file root truncates and which process root signals. So:
//
//   - The directory must belong to root or to the caller, and nobody else may write it. A sticky directory such as /tmp is
//     refused as well when the caller is root. Any other user may use a sticky directory: there the sticky bit keeps others
//     from removing his file, and all that they can do is to be there first, which is an error that says so.
//   - The file must be a regular file, ours, with one link, and not writable by group or others. A symbolic link is never
//     followed, a fifo never waited for.
//
// Only the directory that holds the file is checked, not those above it. An access list shows up in the group bits
// (acl(5)), so it is covered.
//
// # What it does not do
//
// It needs flock(2) and a /proc of its own pid namespace. Anybody who may read the file may lock it too and so keep the
// daemon from starting; keep the file in a directory of mode 0700 where that matters. Under hidepid (proc(5)) the processes
// of other users look dead to [Identity.Alive]; the lock still tells the truth.
//
// go-daemon's own pidfile is not used, because it removes the file of the running daemon when a second start fails to lock
// it, follows symbolic links, hands the lock to every program that the daemon runs, and removes by name
// (sevlyar/go-daemon v0.1.6, lock_file.go and daemon_unix.go).
package pidfile
