package daemon

import (
	"errors"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A TCPInfo is what is known of a client's TCP connection: its ends, and how it does in the kernel's eyes (tcp(7), TCP_INFO).
//
// If the client comes through a proxy that has told who he is, Local and Foreign are the addresses that he has, the others those of
// the connection with the proxy, and of that connection is all the rest.
type TCPInfo struct {
	Local   netip.AddrPort // this end; of IPv4 in IPv6 it is the IPv4 address
	Foreign netip.AddrPort // the client's

	Proxy netip.AddrPort // the proxy that the client comes through; the zero AddrPort: none

	State       string        // "established", "close wait" if the client has sent FIN, and so on, as in RFC 9293, or "unknown"
	RTT         time.Duration // round-trip time, smoothed; 0: not known yet
	RTTVar      time.Duration // how much it varies
	Unacked     int           // segments that were sent and are not acknowledged
	Lost        int           // of those, the segments that are taken for lost
	Retransmits int           // segments that were sent again, in the whole life of the connection
	Unanswered  int           // how many times in a row the segment that has waited for the longest was sent in vain
	Window      int           // congestion window, in segments
	MSS         int           // bytes in a segment that is sent, at most
	Received    uint64        // bytes from the client; 0 also on kernels that do not count them
	Acked       uint64        // bytes that the client has acknowledged
	LastHeard   time.Duration // since anything came from the client's host
}

// tcpStates are named as in RFC 9293, by the kernel's numbers (include/net/tcp_states.h).
var tcpStates = [...]string{
	1: "established", 2: "syn sent", 3: "syn received", 4: "fin wait 1", 5: "fin wait 2", 6: "time wait", 7: "closed", 8: "close wait",
	9: "last ack", 10: "listen", 11: "closing",
}

// errNoTCP is why there is nothing to be known.
var errNoTCP = errors.New("the connection is not one of TCP")

// TCPInfo returns what is known of the connection now. The error is that of a Unix socket, or of a connection that is closed. It may be
// called on any goroutine.
func (conn *Conn) TCPInfo() (TCPInfo, error) {
	if !conn.tcp {
		return TCPInfo{}, errNoTCP
	}
	var k *unix.TCPInfo
	err := conn.control(func(fd int) (err error) {
		k, err = unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return os.NewSyscallError("getsockopt", err)
	})
	if err != nil {
		return TCPInfo{}, err
	}
	info := TCPInfo{
		State: "unknown",
		RTT:   time.Duration(k.Rtt) * time.Microsecond, RTTVar: time.Duration(k.Rttvar) * time.Microsecond,
		Unacked: int(k.Unacked), Lost: int(k.Lost), Retransmits: int(k.Total_retrans), Unanswered: int(k.Retransmits),
		Window: int(k.Snd_cwnd), MSS: int(k.Snd_mss), Received: k.Bytes_received, Acked: k.Bytes_acked,
		LastHeard: time.Duration(min(k.Last_data_recv, k.Last_ack_recv)) * time.Millisecond,
	}
	if s := int(k.State); s > 0 && s < len(tcpStates) {
		info.State = tcpStates[s]
	}
	info.Local, info.Foreign, _ = conn.endpoints()
	if conn.client != nil {
		info.Local, info.Foreign, info.Proxy = tcpAddr(conn.server), tcpAddr(conn.client), info.Foreign
	}
	return info, nil
}
