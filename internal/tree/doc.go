// Package tree ends processes together with everything they have started, and reaps what such processes leave behind.
//
// A process group is not enough: a program that calls setsid(2) or setpgid(2) is out of it. What a program cannot leave
// is its place below a child subreaper (PR_SET_CHILD_SUBREAPER(2const)): if its parent dies, it becomes a child of the
// subreaper. So the tree of children below a subreaper holds all that it has started, as long as the subreaper lives.
//
// # How a tree is ended
//
// Killing one by one loses a race against programs that fork. [Kill] stops first and kills afterwards: SIGSTOP cannot
// be caught, and a process with a pending signal starts no fork (copy_process in kernel/fork.c gives up with
// ERESTARTNOINTR). A fork that was under way when the signal came still succeeds. So the process table is looked at
// again and again, until two looks in a row have brought nothing new and all threads of all processes were seen at
// rest. Only then SIGKILL is sent.
//
// No process is signalled by its number alone. A pidfd is opened first; if the number then still has a parent that is
// known to belong to the tree, the pidfd can mean nobody else, for a number is not reused before the process is reaped.
//
// # What it does not do
//
//   - A root that is no subreaper loses those descendants whose parents died before the root was stopped. They are
//     children of the next subreaper above, which recognises them by a mark in their environment ([Strays]).
//   - A mark can be taken off: by a program that starts others with an empty environment, or one that writes its title
//     over its environment.
//   - A fork bomb on many processors may grow faster than one thread can stop it, and on a kernel without
//     CONFIG_PROC_CHILDREN a program that lives on by forking and dying may be gone from where it was seen each time. Kill
//     then gives up after a second, kills what it knows and says so. Only a cgroup ([Delegated]) is safe from that.
//   - A process that somebody outside of the tree traces or continues does not come to rest: Kill takes its second then.
//   - It needs Linux 5.4 and /proc of its own pid namespace. With hidepid (proc(5)) the processes of other users are not
//     seen.
//   - It does not wait for the end of what it has killed: a process in uninterruptible sleep ends later.
package tree
