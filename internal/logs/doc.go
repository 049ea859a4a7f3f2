// Package logs carries lines from many processes into few files: it cuts them out of pipes, makes them safe to show, queues
// them in front of a slow disk, and writes them to files that rotate.
//
// The invariant: only one process has a log file open, and a record is in the log whole or not at all. A rotation neither
// loses nor cuts one, and a record that could not be written, or for which the queue had no room, is counted.
//
// The way of a line, in the parent process:
//
//	child's pipe → Lines → Escape and a stamp → Writer (bounded, does not block) → File (lumberjack) or Std
//
// [Lines] belongs on a goroutine per pipe. [Writer] has one goroutine of its own. [File] and [Std] are plain and may block
// as long as the disk or the terminal does.
//
// # What lumberjack does here, and what not
//
// gopkg.in/natefinch/lumberjack.v2 v2.2.1 writes the file, names the old ones, compresses and removes them. It has no
// release since 2023, so [File] keeps it away from what it is known to do badly:
//
//   - Two processes that write one file lose lines without a word (issues 85, 166). File holds a flock(2) on what it writes,
//     so a second Open of the same file is an error. The lock is let go with the process.
//   - Its own rotation names the old file by the millisecond and renames over an older one of that name; it creates the new
//     file with mode 0600 if there is none to copy, without O_APPEND, follows a symbolic link and truncates what it finds.
//     So File decides when to rotate, renames to a free name and creates the new file itself, and then lets lumberjack open
//     it and look after the old ones. Its own size limit is out of reach, which also means that no record is too long for it.
//   - If it cannot open the file it renames it, whatever the reason. File notices that after a failed write and starts anew.
//   - Each Logger leaves a goroutine behind for ever (millRun; issues 56, 205). File makes one Logger and keeps it through
//     every Reopen; so it is one goroutine for each Open.
//
// # Rules for the place of a log
//
// The file must be a regular file, and a symbolic link in its place is never followed. When the caller is root, its directory
// must belong to root and nobody else may write there: a log directory that a lesser user owns has been a way to root
// (CVE-2016-1247, nginx on Debian). One exception: in a sticky directory such as /tmp root may write a file that is his own
// and has one link; old files are then not compressed, since lumberjack would create the compressed one by name and follow
// a link. Only the directory itself is checked, not those above it. A group-writable /var/log (Ubuntu) is refused: make a
// directory of the daemon's own in it.
//
// # What it does not do
//
// A file that somebody removes stays open, without a name, until the next rotation or Reopen; Reopen is the cure. Likewise a
// file that logrotate has renamed. logrotate's copytruncate works, but loses what is written between the copy and the cut.
// Nothing is synced to the disk: a crash of the machine may lose the last seconds.
package logs
