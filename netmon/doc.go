// Package netmon tells which clients have hung up on a process, by comparing
// looks at the kernel's own table of TCP connections. It needs no help from the
// process that serves the client, which may be stopped, busy or written in any
// language.
//
// What always holds: a client is reported at most once; it is reported only if
// the kernel says so and one of the given processes still holds that very socket
// at that moment; and a connection that our own side began to close is never
// reported.
//
// # What the kernel shows
//
// A connection is a row in /proc/net/tcp or /proc/net/tcp6 (proc_pid_net(5),
// net/ipv4/tcp_ipv4.c, net/ipv6/tcp_ipv6.c). A Go listener on ":80" is a
// dual-stack socket, so its IPv4 clients stand in tcp6, with mapped addresses.
//
//	what happened                    the row
//	client closed (FIN)              turns to CLOSE_WAIT and stays
//	client reset (RST)               is gone at once; the descriptor stays open
//	kept-alive peer timed out        is gone at once; the descriptor stays open
//	our side closed or shut down     turns to FIN_WAIT1, FIN_WAIT2, CLOSING, TIME_WAIT
//	our side closed after the client turns to LAST_ACK
//	still in the accept queue        has inode 0
//
// Nothing but the socket's inode identifies a connection. The pair of addresses
// can be used again the moment after a reset, and descriptor numbers are used
// again all the time.
//
// # Use
//
// [Table] reads the table. [Monitor] compares what a table (or any other
// [Snapshotter]) shows from one [Monitor.Poll] to the next. There are no
// goroutines and no timers here: who calls Poll decides when to look. A look at the
// two files costs some 12 ns for each bucket of the kernel's hash table (3 ms where
// there are 262,144), and 1.5 µs for each socket of the network namespace, whichever
// port it has; nearly all of that is spent inside the kernel.
//
// # Limits
//
//   - A half-close (shutdown(SHUT_WR), `nc -N`) looks exactly like a close; it is
//     reported as [Closed].
//   - An MPTCP connection's row stays ESTABLISHED after its client has left, so
//     that is not noticed. Go's listeners accept MPTCP unless told not to
//     (net.ListenConfig.SetMultipathTCP).
//   - A connection opened and reset between two looks was never seen, and is
//     missed. One opened and closed between two looks is found.
//   - A connection whose client left and whose process then shut down its own
//     side too, all between two looks, has no row any more either. If the process
//     still keeps the descriptor it is reported as [Reset].
//   - A client whose host has vanished is ESTABLISHED until keep-alive or
//     TCP_USER_TIMEOUT ends it. It then shows as [Reset].
//   - Only one network namespace is seen: that of the proc mount given. A table
//     of another one is NewTable("/proc/PID").
//   - Unix sockets are not in these tables.
//   - Linux only. To see the descriptors of another process takes the same user
//     (and a process that is dumpable) or privilege: ptrace(2),
//     PTRACE_MODE_READ_FSCREDS.
package netmon
