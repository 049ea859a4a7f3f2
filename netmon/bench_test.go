package netmon

import (
	"bufio"
	"encoding/binary"
	hexadecimal "encoding/hex"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// naive reads a table the usual way, for comparison.
func naive(root FS, port uint16, dst []Conn) ([]Conn, error) {
	for _, name := range []string{"/net/tcp", "/net/tcp6"} {
		f, err := os.Open(string(root) + name)
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			fields := strings.Fields(lines.Text())
			if len(fields) < 10 || fields[0] == "sl" {
				continue
			}
			var c Conn
			var ends [2]netip.AddrPort
			for i, text := range fields[1:3] {
				host, p, _ := strings.Cut(text, ":")
				ends[i], err = naiveEnd(host, p)
				if err != nil {
					f.Close()
					return nil, err
				}
			}
			c.Local, c.Remote = ends[0], ends[1]
			state, _ := strconv.ParseUint(fields[3], 16, 8)
			c.State = State(state)
			c.Inode, _ = strconv.ParseUint(fields[9], 10, 64)
			if c.Local.Port() == port && c.Inode != 0 {
				dst = append(dst, c)
			}
		}
		f.Close()
		if err := lines.Err(); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

func naiveEnd(host, port string) (netip.AddrPort, error) {
	raw, err := hexadecimal.DecodeString(host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for i := 0; i+4 <= len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	a, _ := netip.AddrFromSlice(raw)
	p, err := strconv.ParseUint(port, 16, 16)
	return netip.AddrPortFrom(a.Unmap(), uint16(p)), err
}

// BenchmarkSnapshot reads each table by turns with a Table and the naive way, and
// reports how many times longer the naive way takes.
func BenchmarkSnapshot(b *testing.B) {
	fake, _ := fakeTable(b, 10_000)
	for _, bm := range []struct {
		name string
		root FS
	}{{"file of 20000 rows", fake}, {"real proc", DefaultFS}} {
		b.Run(bm.name, func(b *testing.B) {
			table := NewTable(bm.root)
			var ours, theirs []Conn
			var took, tookNaive time.Duration
			ours, _ = table.Snapshot(nil, Filter{})
			b.ReportAllocs()
			for b.Loop() {
				var err error
				start := time.Now()
				ours, err = table.Snapshot(ours[:0], Filter{Ports: []uint16{8080}})
				took += time.Since(start)
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				start = time.Now()
				theirs, err = naive(bm.root, 8080, theirs[:0])
				tookNaive += time.Since(start)
				if err != nil || bm.root == fake && !cmp.Equal(ours, theirs, cmpConn) {
					b.Fatal("the two do not agree", err)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(tookNaive)/float64(took), "x-naive")
		})
	}
}

// BenchmarkPoll is what a poll costs besides reading the table: 10,000 connections, two
// children, one client closing in each round and its job with it.
func BenchmarkPoll(b *testing.B) {
	k, m := newKernel(b)
	for i := range 10_000 {
		k.rows = append(k.rows, clientConn(uint64(i+1), Established))
		k.fd(7+i%2, 10+i, uint64(i+1))
	}
	pids := []int{7, 8}
	if _, err := m.Poll(nil, port80, pids); err != nil {
		b.Fatal(err)
	}
	b.Run("nothing happens", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if got, err := m.Poll(nil, port80, pids); err != nil || len(got) > 0 {
				b.Fatal(got, err)
			}
		}
	})
	b.Run("one accepted, one closed", func(b *testing.B) {
		b.ReportAllocs()
		next := uint64(20_000)
		for b.Loop() {
			next++
			k.fd(7, 10, next)
			k.rows[0] = clientConn(next, Established)
			if got, err := m.Poll(nil, port80, pids); err != nil || len(got) > 0 {
				b.Fatal(got, err)
			}
		}
	})
}
