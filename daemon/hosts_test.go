package daemon

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A zone is what a name server knows: for each name, in lower case and with its dot, what it leads to. A name of which it
// knows nothing does not exist.
type zone map[string][]string

const (
	broken = "SERVFAIL"
	mute   = "…" // no answer at all
)

// serveDNS answers on a port of its own and returns a resolver that asks there, and counts how often.
func serveDNS(t *testing.T, z zone) (*net.Resolver, *atomic.Int32) {
	t.Helper()
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	asked := new(atomic.Int32)
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			asked.Add(1)
			if answer := z.answer(buf[:n]); answer != nil {
				pc.WriteTo(answer, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp4", pc.LocalAddr().String())
	}}, asked
}

// answer makes the answer to one question (RFC 1035, section 4); nil: there is none.
func (z zone) answer(q []byte) []byte {
	const typeA, typePTR, typeAAAA = 1, 12, 28
	var name strings.Builder
	at := 12
	for q[at] != 0 {
		name.Write(q[at+1 : at+1+int(q[at])])
		name.WriteByte('.')
		at += 1 + int(q[at])
	}
	kind := binary.BigEndian.Uint16(q[at+1:])
	question := q[12 : at+5]
	leads, exists := z[strings.ToLower(name.String())]
	code, count := byte(0), 0
	var records []byte
	for _, to := range leads {
		var data []byte
		switch a, err := netip.ParseAddr(to); {
		case to == mute:
			return nil
		case to == broken:
			code = 2
			continue
		case err == nil && (kind == typeA) == a.Is4() && kind != typePTR:
			data = a.AsSlice()
		case err != nil && kind == typePTR:
			for label := range strings.SplitSeq(strings.TrimSuffix(to, "."), ".") {
				data = append(append(data, byte(len(label))), label...)
			}
			data = append(data, 0)
		default:
			continue
		}
		count++
		records = append(records, 0xc0, 12) // the name that was asked for
		records = binary.BigEndian.AppendUint16(records, kind)
		records = append(records, 0, 1, 0, 0, 0, 60)
		records = append(binary.BigEndian.AppendUint16(records, uint16(len(data))), data...)
	}
	if !exists {
		code = 3
	}
	head := []byte{q[0], q[1], 0x85, 0x80 | code, 0, 1, 0, byte(count), 0, 0, 0, 0}
	return append(append(head, question...), records...)
}

// patient is for tests that are not about time, on a machine that may be slow.
func patient(r resolver) *hosts {
	h := hostsBy(r)
	h.limit = time.Minute
	return h
}

// A host has the names that lead back to its address, and no other. CVE-2013-1841
func TestHostsConfirmed(t *testing.T) {
	t.Parallel()
	r, _ := serveDNS(t, zone{
		"1.0.0.10.in-addr.arpa.": {"a.example.org.", "B.example.org."},
		"2.0.0.10.in-addr.arpa.": {"a.example.org."}, // forged: that name leads elsewhere
		"3.0.0.10.in-addr.arpa.": {"missing.example.org."},
		"4.0.0.10.in-addr.arpa.": {broken},
		"5.0.0.10.in-addr.arpa.": {"a.example.org.", "broken.example.org.", "five.example.org."},
		"6.0.0.10.in-addr.arpa.": {"n1.", "n2.", "n3.", "n4.", "n5.", "n6.", "n7.", "n8.", "five.example.org."},
		"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.": {"six.example.org."},
		"a.example.org.":      {"10.0.0.1", "10.0.0.9"},
		"b.example.org.":      {"10.0.0.1"},
		"broken.example.org.": {broken},
		"five.example.org.":   {"10.0.0.5", "10.0.0.6"},
		"six.example.org.":    {"10.0.0.1", "fd00::1"},
	})
	for _, c := range []struct {
		addr, names, err string
	}{
		{"10.0.0.1", "a.example.org b.example.org", ""},
		{"::ffff:10.0.0.1", "a.example.org b.example.org", ""},
		{"10.0.0.2", "", ""},
		{"10.0.0.3", "", ""},
		{"10.0.0.4", "", "4.0.0.10"},
		{"10.0.0.5", "five.example.org", "broken.example.org"},
		{"10.0.0.6", "", "more names"},
		{"10.0.0.7", "", ""},
		{"fd00::1%lo", "six.example.org", ""},
	} {
		h := patient(r)
		names, err := h.names(netip.MustParseAddr(c.addr))
		if got := strings.Join(names, " "); got != c.names || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %q, %v, want %q and an error with %q", c.addr, got, err, c.names, c.err)
		}
		again, err2, ok := h.known(netip.MustParseAddr(c.addr))
		if !ok || !slices.Equal(names, again) || !errors.Is(err2, err) {
			t.Errorf("%s: what is known is %q, %v, %v", c.addr, again, err2, ok)
		}
	}
}

// A server that does not answer is waited for as long as a client can be made to wait, for both questions together.
func TestHostsTimeLimit(t *testing.T) {
	t.Parallel()
	r, _ := serveDNS(t, zone{
		"1.0.0.10.in-addr.arpa.": {mute},
		"2.0.0.10.in-addr.arpa.": {"a.example.org."}, "a.example.org.": {mute},
	})
	h := hostsBy(r)
	var wg sync.WaitGroup
	for _, a := range []string{"10.0.0.1", "10.0.0.2"} {
		wg.Go(func() {
			begin := time.Now()
			if names, err := h.names(netip.MustParseAddr(a)); len(names) > 0 || err == nil || isNone(err) {
				t.Errorf("%s: %q, %v", a, names, err)
			}
			if took := time.Since(begin); took < lookUpTime/2 || took > 5*lookUpTime { // the machine may be slow
				t.Errorf("%s: took %v", a, took)
			}
		})
	}
	wg.Wait()
}

// A slowResolver answers when it is told to.
type slowResolver struct {
	mu    sync.Mutex
	asked int
	most  int
	now   int
	gate  chan struct{}
	err   error
}

func (r *slowResolver) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	r.mu.Lock()
	r.asked++
	r.now++
	r.most = max(r.most, r.now)
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.now--
		r.mu.Unlock()
	}()
	select {
	case <-r.gate:
		return []string{"h" + addr + ".example.org."}, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (r *slowResolver) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr(strings.TrimSuffix(host[1:], ".example.org."))}, nil
}

func (r *slowResolver) count() (asked, now, most int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked, r.now, r.most
}

// eventually waits for what must happen.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// However many ask for one host at once, it is looked up once; and of many hosts only so many at once.
func TestHostsTogether(t *testing.T) {
	t.Parallel()
	r := &slowResolver{gate: make(chan struct{})}
	h := patient(r)
	var wg sync.WaitGroup
	ask := func(a string) {
		wg.Go(func() {
			if names, err := h.names(netip.MustParseAddr(a)); err != nil || !slices.Equal(names, []string{"h" + a + ".example.org"}) {
				t.Errorf("%s: %q, %v", a, names, err)
			}
		})
	}
	for range 50 {
		ask("10.0.0.1")
	}
	for i := range mostLookUps + 10 {
		ask(fmt.Sprintf("10.0.1.%d", i))
	}
	eventually(t, "as many as may be looked up", func() bool { _, now, _ := r.count(); return now == mostLookUps })
	close(r.gate)
	wg.Wait()
	if asked, _, most := r.count(); asked != mostLookUps+11 || most != mostLookUps {
		t.Errorf("asked %d times, %d at once; want %d, %d", asked, most, mostLookUps+11, mostLookUps)
	}
}

// What has been found out is believed for a while, what has not for a shorter one; and no more hosts are remembered than that.
func TestHostsRemembered(t *testing.T) {
	t.Parallel()
	r := &slowResolver{gate: make(chan struct{})}
	close(r.gate)
	h := patient(r)
	a := netip.MustParseAddr("10.0.0.1")
	h.names(a)
	h.names(a)
	if asked, _, _ := r.count(); asked != 1 {
		t.Errorf("asked %d times for what is known", asked)
	}
	if left := time.Until(h.byAddr[a].until); left > knownTime || left < knownTime-time.Second*5 {
		t.Errorf("it is believed for %v", left)
	}
	h.byAddr[a].until = time.Now()
	if _, _, ok := h.known(a); ok {
		t.Error("it is believed for ever")
	}
	h.names(a)
	if asked, _, _ := r.count(); asked != 2 {
		t.Errorf("asked %d times, once for what is no longer believed", asked)
	}
	r.err = errors.New("broken")
	b := netip.MustParseAddr("10.0.0.2")
	h.names(b)
	if left := time.Until(h.byAddr[b].until); left > unknownTime {
		t.Errorf("that nothing could be found out is believed for %v", left)
	}
	for i := range 3 * mostHosts {
		h.names(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}))
		if len(h.byAddr) > mostHosts {
			t.Fatalf("%d hosts are remembered", len(h.byAddr))
		}
	}
}

// The hosts file counts, too: no server is asked.
func TestHostsLocal(t *testing.T) {
	if names, err := newHosts().names(netip.MustParseAddr("127.0.0.1")); err != nil || !slices.Contains(names, "localhost") {
		t.Skipf("this machine does not call itself localhost: %q, %v", names, err)
	}
}
