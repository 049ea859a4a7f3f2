// Package rules decides who may connect, by rules that operators write.
//
// A rule is one word:
//
//	10.0.0.0/8, fd00::/8     addresses in this prefix
//	192.168.1.7, ::1         this address
//	/10\.1\..*/              addresses whose text, as a whole, matches this regular expression (RE2)
//	host.example.org         the host of this name
//	.example.org             hosts whose names end so
//	uid:1000, uid:www-data   processes of this user, on Unix sockets
//	gid:1000, gid:www-data   processes in this group, on Unix sockets
//	unix                     everybody who comes by a Unix socket
//	all                      everybody
//
// An address of IPv4 is one however it comes: ::ffff:10.1.1.1, as a socket for both families shows it, is 10.1.1.1. Zones
// (fe80::1%eth0) count for nothing. So 0.0.0.0/0 is all of IPv4 and ::/0 all of IPv6.
//
// A host has a name if the name that its address leads to (PTR) leads back to that very address: who owns an address may have it
// lead to any name (CVE-2013-1841). Where that cannot be found out, because a server does not answer, a rule that denies
// holds and a rule that allows does not. A host without a name is no host of that name.
//
// Address and host rules are about IP peers alone, uid, gid and unix about peers on Unix sockets alone. What decides is the same for
// both: who is denied is refused; if anybody is allowed, who is not is refused; else he may connect. So a daemon that allows
// 10.0.0.0/8 and listens on a Unix socket, too, lets nobody in there until it allows unix, or a user: a list of those who may
// connect has no door beside it.
package rules
