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
// [Open] returns the best source of rows that there is, and which it is and why.
// [Monitor] compares what the source shows from one [Monitor.Poll] to the next. There are
// no goroutines and no timers here, and nothing is logged: who calls Poll decides when to
// look, and what to say. A [Gate] tells him for some 10 µs whether a look could show
// anything new.
//
// # Sources
//
//   - [Diag] asks the kernel by netlink (inet_diag, sock_diag(7)), which needs no
//     privilege. The kernel walks its table, some 0.6 ns for each bucket and 0.1 µs for
//     each socket, and sends the rows that are wanted. A look at ten of 20,000 sockets
//     takes 1 to 2 ms, some 20 times less than `ss -tn` and 120 times less than
//     `netstat -anp` (module netmon/compare measures it). A Diag can also look up single
//     sockets, in 4 µs each whatever the size of the table ([Diag.Lookup]), and tell a
//     half-close of a client on the same host from a close ([Diag.Confirm]).
//   - [Table] reads /proc/net/tcp and tcp6, which is always possible. A look costs some
//     12 ns for each bucket (3 ms where there are 262,144), and 1.5 µs for each socket
//     of the namespace, whichever port it has; nearly all of that is spent inside the
//     kernel.
//   - [Auto], which Open returns, is a Diag, or a Table if the kernel refuses that now
//     or later (seccomp, sandboxes, kernels without inet_diag).
//   - [Unix] shows connections of Unix sockets (unix_diag). [Monitor.WatchUnix] adds it
//     to a Monitor. There is nothing to fall back to: /proc/net/unix does not show
//     who has left.
//
// Reading allocates nothing in the steady state, whichever the source.
//
// A [Watcher] is no source but a bell: it hears within some 20 µs that something has ended on sockets of other processes,
// which it borrows for a moment (pidfd_getfd(2)). With [Monitor.WatchWith] it has each connection that Poll has found, and
// whoever waits on it knows when the next Poll is worth while. [Holders] and a source together answer the question whose
// connections are in which state.
//
// # Limits
//
//   - A half-close (shutdown(SHUT_WR), `nc -N`) of a TCP connection looks exactly like a
//     close; it is reported as [Closed]. If the client is on this host, Diag.Confirm
//     tells.
//   - An MPTCP connection's row stays ESTABLISHED after its client has left, so
//     that is not noticed. Go's listeners accept MPTCP unless told not to
//     (net.ListenConfig.SetMultipathTCP).
//   - A connection opened and reset between two looks was never seen, and is
//     missed. One opened and closed between two looks is found.
//   - A connection whose client left and whose process then shut down its own
//     side too, all between two looks, has no row any more either. If the process
//     still keeps the descriptor it is reported as [Reset].
//   - The same goes for one that our process shut down and the client then closed,
//     all between two looks, if the kernel has no room for a TIME_WAIT row
//     (net.ipv4.tcp_max_tw_buckets).
//   - A client whose host has vanished is ESTABLISHED until keep-alive or
//     TCP_USER_TIMEOUT ends it. It then shows as [Reset].
//   - Only one network namespace is seen: that of the proc mount given. Open("/proc/PID")
//     is a Table where PID lives in another one.
//   - Linux only. To see the descriptors of another process takes the same user
//     (and a process that is dumpable) or privilege: ptrace(2),
//     PTRACE_MODE_READ_FSCREDS.
package netmon
