// Package reload reports a change only after the content of a watched file has really become different and
// every file that became different has come to rest.
//
// It answers that one question, "these files changed and are whole again", and starts, builds or kills
// nothing. A [Set] says what to watch, [Open] starts watching, and [Watcher.Changes] delivers.
//
//	w, err := reload.Open(reload.Self())
//	if err != nil {
//		return err
//	}
//	defer w.Close()
//	for change := range w.Changes() {
//		log.Println("changed:", change.Paths)
//	}
//
// # Events are hints
//
// Directories are watched, never files: an editor that saves by renaming leaves a watch on a file blind for ever
// (fsnotify issues 17, 214, 255, 282). An event, an overflow of the kernel's queue or an error from inotify says
// no more than "look again". After Settle without a further event, or MaxSettle after the first one, the watcher
// looks at everything it watches and compares with what it last reported. All of these are therefore one report:
// an in-place write, an atomic save, `go build -o`, `mv` over the file, `ln -sfn`, the ..data flip of a Kubernetes
// volume, 5000 events of a git checkout.
//
// # What counts as a change
//
// A regular file has changed if its size or its executable bits differ, or if its SHA-256 differs. The hash is
// taken only of files whose stat(2) differs (device, inode, size, mtime, ctime or mode), and once when watching
// starts, so that there is something to compare with. A touch, a chmod that leaves the executable bits alone, and
// a copy of the same bytes are no change.
//
// Two limits keep large trees cheap. In Dirs, files above 64 MiB are never hashed, and Open reads at most 128 MiB
// for each Set; a file that was not hashed has changed if its size, mtime or inode differs, so there a touch counts.
// Named Files are always hashed.
//
// In Dirs, a file or symbolic link that came or went is a change, as is a link with a new text. Links below the
// root are not followed. Directories, sockets, pipes and devices do not count. The root itself, and every path in
// Files, may lead through symbolic links; each is resolved anew at every look.
//
// A named file, or the root of a tree, that is missing is no change: deploys unlink and create (19 ms were measured
// for `go build` across file systems). Nothing is reported until it is back with other content.
//
// # At rest
//
// A file that differs is reported only when it has stopped moving: no event came for Settle from a directory that was
// watched all that time, or two looks at least Settle apart saw the same stat. MaxSettle does not cut this
// short for the file itself; it only lets the other files go ahead. An executable among the named Files must
// also not be open for writing, because exec(2) of it would fail with ETXTBSY and because a copy may pause; see
// the comment at leaseProbe for how that is found out, and when it cannot be.
//
// # Limits of the kernel
//
// NFS, FUSE and some overlay mounts send no events (fsnotify issues 9, 306), and inotify runs out of watches
// (ENOSPC, sysctl fs.inotify.max_user_watches) and of instances (EMFILE, fs.inotify.max_user_instances).
// Behind the events therefore runs a slow poll that makes the same comparison. If inotify cannot be had, the poll
// does the work alone and one warning names the sysctl. Facts about the events are from inotify(7) and from
// observing fsnotify 1.10.1; those about leases from fcntl(2).
//
// A directory above the watched ones that is renamed sends no event unless it is reached through a link; the poll
// notices. A program that writes its log or pid file into a watched tree must list it in IgnorePaths, or every
// report causes the next. The package itself writes nothing and logs only warnings, each kind once.
//
// # Before a program is executed
//
// Whoever executes what has changed opens it once (O_PATH), asks these of the descriptor, and executes that: [Trusted],
// whether root may, [Writing], whether it is whole, and [FingerprintOf], whether it is another program at all.
package reload
