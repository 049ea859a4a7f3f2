package netmon

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// answerRoom is more than the kernel ever puts into one datagram, which is 32 KiB
	// (net/netlink/af_netlink.c, netlink_recvmsg).
	answerRoom = 64 << 10
	// attempts bounds how often a question is put again that the kernel could not
	// answer in one go.
	attempts = 4
	// answerTime bounds the wait for a datagram. The kernel answers from within the
	// system calls themselves, so this is for one that does not answer at all.
	answerTime = 5 // seconds
)

// errInterrupted: what was dumped changed in a way that the kernel could not hide, or
// its answers found no room.
var errInterrupted = errors.New("the answer was interrupted")

// link carries messages to the kernel and back.
type link interface {
	send(b []byte) error
	// recv waits for one datagram. n is its true length, more than len(buf) if it was
	// cut short; from is the sender's port, 0 for the kernel.
	recv(buf []byte) (n int, from uint32, err error)
	close()
}

// netlink asks NETLINK_SOCK_DIAG (sock_diag(7)). After an error it goes on with a new
// socket, as the old one may hold the rest of an answer.
type netlink struct {
	open func() (link, error)
	link link // nil: to be opened
	seq  uint32
	buf  []byte
}

func newNetlink() netlink { return netlink{open: openLink, buf: make([]byte, answerRoom)} }

// reader takes the rows of a dump, or the answers to single questions.
type reader interface {
	// begin forgets what was read: the kernel is asked anew.
	begin()
	// row takes the answer to the question numbered i; a dump is question 0.
	row(i int, body []byte) error
	// refused is told that there is none, and returns an error if that is one.
	refused(i int, errno unix.Errno) error
}

// ask puts the questions in req, each a whole message, and gives r the answers. Their
// sequence numbers are filled in here. A dump is one question that is answered with
// many rows, all of type kind.
func (n *netlink) ask(req []byte, kind uint16, dump bool, r reader) error {
	var err error
	for range attempts {
		r.begin()
		err = n.try(req, kind, dump, r)
		if err == nil {
			return nil
		}
		n.close()
		if err != errInterrupted && err != unix.ENOBUFS && err != unix.EAGAIN {
			break
		}
	}
	return fmt.Errorf("netmon: sock_diag: %w", err)
}

func (n *netlink) try(req []byte, kind uint16, dump bool, r reader) error {
	if n.link == nil {
		l, err := n.open()
		if err != nil {
			return err
		}
		n.link = l
	}
	first := n.seq + 1
	left := 0
	for b := req; len(b) > 0; left++ {
		n.seq++
		binary.NativeEndian.PutUint32(b[8:], n.seq)
		b = b[binary.NativeEndian.Uint32(b):]
	}
	if err := n.link.send(req); err != nil {
		return err
	}
	for left > 0 {
		size, from, err := n.link.recv(n.buf)
		switch {
		case err != nil:
			return err
		case size > len(n.buf):
			return fmt.Errorf("a datagram of %d bytes was cut short", size)
		case from != 0:
			continue // not from the kernel: whoever it is, nobody asked
		}
		answered, err := readAnswers(n.buf[:size], first, left, kind, dump, r)
		if err != nil {
			return err
		}
		left -= answered
	}
	return nil
}

func (n *netlink) close() {
	if n.link != nil {
		n.link.close()
		n.link = nil
	}
}

// readAnswers gives r what is in one datagram, and returns how many questions are
// answered by it. The questions have the numbers from first on, of which the last left
// ones are open; messages about others are what remained of an earlier talk.
func readAnswers(b []byte, first uint32, left int, kind uint16, dump bool, r reader) (answered int, err error) {
	for len(b) > 0 && answered < left {
		// struct nlmsghdr: length 4 bytes, with these 16; type 2, flags 2, sequence
		// number 4, port 4. The next message begins at a multiple of 4.
		if len(b) < unix.NLMSG_HDRLEN {
			return answered, fmt.Errorf("%d bytes are no message", len(b))
		}
		size := int64(binary.NativeEndian.Uint32(b))
		if size < unix.NLMSG_HDRLEN || size > int64(len(b)) {
			return answered, fmt.Errorf("a message of %d bytes in %d", size, len(b))
		}
		typ, flags := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:])
		i := binary.NativeEndian.Uint32(b[8:]) - first
		body := b[unix.NLMSG_HDRLEN:size]
		b = b[min(int64(len(b)), (size+3)&^3):]
		if dump && i != 0 || i >= maxBatch {
			continue
		}
		if flags&unix.NLM_F_DUMP_INTR != 0 && dump {
			return answered, errInterrupted
		}
		switch typ {
		case kind:
			if err := r.row(int(i), body); err != nil {
				return answered, err
			}
			if !dump {
				answered++
			}
		case unix.NLMSG_NOOP:
		case unix.NLMSG_OVERRUN:
			return answered, errInterrupted
		case unix.NLMSG_DONE:
			// It bears the error that ended the dump, if one did.
			if len(body) >= 4 {
				if no := int32(binary.NativeEndian.Uint32(body)); no < 0 {
					if err := r.refused(int(i), unix.Errno(-no)); err != nil {
						return answered, err
					}
				}
			}
			answered++
		case unix.NLMSG_ERROR:
			if len(body) < 4 {
				return answered, errors.New("an error without a number")
			}
			no := -int32(binary.NativeEndian.Uint32(body))
			if no <= 0 {
				return answered, fmt.Errorf("error %d instead of an answer", no)
			}
			if err := r.refused(int(i), unix.Errno(no)); err != nil {
				return answered, err
			}
			answered++
		default:
			return answered, fmt.Errorf("a message of type %d", typ)
		}
	}
	return answered, nil
}

// appendHeader appends the head of a message with a body of size bytes.
func appendHeader(b []byte, size int, typ, flags uint16) []byte {
	b = binary.NativeEndian.AppendUint32(b, uint32(unix.NLMSG_HDRLEN+size))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|flags)
	return append(b, 0, 0, 0, 0, 0, 0, 0, 0) // sequence number and port
}

// diagSocket is the link to the kernel: to the network namespace of the thread that
// opened it.
type diagSocket int

func openLink() (link, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: answerTime}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("setsockopt", err)
	}
	return diagSocket(fd), nil
}

// send writes to the kernel, which is where a socket without a peer sends to.
func (s diagSocket) send(b []byte) error {
	for {
		n, err := unix.Write(int(s), b)
		switch {
		case err == unix.EINTR:
			continue
		case err == nil && n != len(b):
			return fmt.Errorf("sent %d bytes of %d", n, len(b))
		}
		return err
	}
}

func (s diagSocket) recv(buf []byte) (int, uint32, error) {
	for {
		var from unix.RawSockaddrNetlink
		size := uint32(unix.SizeofSockaddrNetlink)
		n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(s), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)),
			unix.MSG_TRUNC, uintptr(unsafe.Pointer(&from)), uintptr(unsafe.Pointer(&size)))
		switch errno {
		case 0:
			return int(n), from.Pid, nil
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return 0, 0, fmt.Errorf("no answer within %d s", answerTime)
		}
		return 0, 0, errno
	}
}

func (s diagSocket) close() { unix.Close(int(s)) }
