package daemon

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"
)

// headers are what proxies send, by what it is.
func headers(t testing.TB) map[string][]byte {
	tcp4 := func(version byte) *proxyproto.Header {
		return proxyproto.HeaderProxyFromAddrs(version, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4711}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 443})
	}
	long := tcp4(2)
	if err := long.SetTLVs([]proxyproto.TLV{{Type: proxyproto.PP2_TYPE_NOOP, Value: make([]byte, 4000)}}); err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{
		"v1 unknown":         []byte("PROXY UNKNOWN\r\n"),
		"v1 unknown, longer": []byte("PROXY UNKNOWN ffff:f ffff 1 2\r\n"),
	}
	for name, h := range map[string]*proxyproto.Header{
		"v1": tcp4(1), "v2": tcp4(2), "v2 long": long, "v2 local": {Version: 2, Command: proxyproto.LOCAL},
	} {
		b, err := h.Format()
		if err != nil {
			t.Fatal(err)
		}
		all[name] = b
	}
	return all
}

// Whatever of a header has come, and whatever comes behind it, its length is either known and right, or not known yet.
func TestHeaderLength(t *testing.T) {
	for name, h := range headers(t) {
		with := append(bytes.Clone(h), "\r\nand more of it\r\n"...)
		for n := range len(with) + 1 {
			got, err := headerLength(with[:n], "any")
			if err != nil || got != 0 && got != len(h) || n >= len(h) && got == 0 {
				t.Errorf("%s: after %d of %d bytes the length is %d, %v", name, n, len(h), got, err)
			}
			other := map[bool]string{true: "v1", false: "v2"}[name[:2] == "v2"]
			if got, err := headerLength(with[:n], other); n > 0 && !errors.Is(err, errOtherHeader) || got != 0 {
				t.Errorf("%s, where %s is wanted: after %d bytes %d, %v", name, other, n, got, err)
			}
		}
	}
	for _, d := range []struct {
		in   string
		want error
	}{
		{"GET / HTTP/1.1\r\n", errNoHeader},
		{"\x16\x03\x01", errNoHeader},
		{"PROXX", errNoHeader},
		{"\r\n\r\n\x00\r\nQUIZ", errNoHeader},
		{"PROXY " + strings.Repeat("x", 101), errLongHeader},
		{"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x10\x01", errLongHeader},
	} {
		if n, err := headerLength([]byte(d.in), "any"); n != 0 || !errors.Is(err, d.want) {
			t.Errorf("%q: %d, %v, want %v", d.in, n, err, d.want)
		}
	}
}

// FuzzHeaderLength: the library that reads headers takes as many bytes for one as have been counted here, and nothing that it would take is
// refused but for its length.
func FuzzHeaderLength(f *testing.F) {
	for _, h := range headers(f) {
		f.Add(append(h, "rest"...))
	}
	f.Add([]byte("PROXY TCP4 1 2 3 4\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := headerLength(b, "any")
		if n < 0 || n > maxHeader || n > 0 && err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		whole := bytes.NewReader(b)
		r := bufio.NewReader(whole)
		h, lerr := proxyproto.Read(r)
		if lerr == nil {
			if took := len(b) - whole.Len() - r.Buffered(); took != n || err != nil {
				t.Fatalf("the library takes %d bytes, here it is %d, %v", took, n, err)
			}
		}
		if n == 0 || n > len(b) {
			return
		}
		got, err := parseHeader(b[:n])
		if (err == nil) != (lerr == nil && (h.Command.IsLocal() || !h.TransportProtocol.IsDatagram())) {
			t.Fatalf("alone it is %+v, %v, and with what follows %+v, %v", got, err, h, lerr)
		}
		if err == nil {
			if client, server := endsOf(got); (client == nil) != (server == nil) || client != nil && (client.String() == "" && client.Network() != "unix") {
				t.Fatalf("from %v to %v", client, server)
			}
		}
	})
}
