package daemon

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// What is said of a socket that is closed is the same whether anybody has waited for it before or not.
func TestSocketClosed(t *testing.T) {
	for _, waited := range []bool{false, true} {
		s, _ := socketPair(t)
		if waited {
			s.SetReadDeadline(time.Now().Add(time.Millisecond))
			s.Read(make([]byte, 1))
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := s.SyscallConn(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("SyscallConn, waited %v: %v", waited, err)
		}
		for what, err := range map[string]error{
			"SetDeadline": s.SetDeadline(time.Now()), "SetReadDeadline": s.SetReadDeadline(time.Time{}), "SetWriteDeadline": s.SetWriteDeadline(time.Now()),
			"CloseWrite": s.CloseWrite(), "CloseRead": s.CloseRead(), "Close": s.Close(),
		} {
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s, waited %v: %v", what, waited, err)
			}
		}
	}
}

// Whatever is read, written and set at the same time, no byte is lost or comes twice, nobody waits beyond a deadline, and whoever waits
// hears that the socket is closed.
func TestSocketAllAtOnce(t *testing.T) {
	for range 3 {
		s, c := socketPair(t)
		text := make([]byte, 1<<20)
		for i := range text {
			text[i] = byte(rand.Uint32())
		}
		var all sync.WaitGroup
		over := make(chan struct{})
		all.Go(func() { // the client sends everything back, by and by
			defer c.Close()
			buf := make([]byte, 50_000)
			for {
				n, err := c.Read(buf)
				if err != nil {
					return
				}
				if rand.IntN(4) == 0 {
					time.Sleep(time.Duration(rand.IntN(500)) * time.Microsecond)
				}
				c.Write(buf[:n])
			}
		})
		all.Go(func() {
			for left := text; len(left) > 0; {
				n, err := s.Write(left[:min(len(left), rand.IntN(300_000))])
				left = left[n:]
				if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("write: %v", err)
					return
				}
			}
		})
		all.Go(func() { // deadlines
			for {
				for _, set := range []func(time.Time) error{s.SetReadDeadline, s.SetWriteDeadline, s.SetDeadline} {
					if err := set(time.Now().Add(time.Duration(rand.IntN(2000)-500) * time.Microsecond)); err != nil && !errors.Is(err, net.ErrClosed) { // it may be over
						t.Error(err)
					}
				}
				select {
				case <-over:
					return
				case <-time.After(time.Duration(rand.IntN(1000)) * time.Microsecond):
				}
			}
		})
		var got []byte
		buf := make([]byte, 70_000)
		for len(got) < len(text) {
			begun := time.Now()
			n, err := s.Read(buf[:1+rand.IntN(len(buf)-1)])
			got = append(got, buf[:n]...)
			if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("read: %v", err)
			}
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("a read has taken %v", took)
			}
		}
		close(over)
		if !bytes.Equal(got, text) {
			t.Error("what comes back is not what was sent")
		}
		closed := make(chan error)
		go func() {
			for {
				if _, err := s.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
					closed <- err
					return
				}
				s.SetReadDeadline(time.Time{})
			}
		}()
		s.Close()
		if err := <-closed; !errors.Is(err, net.ErrClosed) {
			t.Errorf("read while it is closed: %v", err)
		}
		all.Wait()
	}
}

// However many read at the same time, each byte is one's, nobody gets none, and all hear of the end.
func TestSocketReaders(t *testing.T) {
	for range 3 {
		s, c := socketPair(t)
		const rounds, readers = 400, 4
		var mu sync.Mutex
		var got [256]int
		var all sync.WaitGroup
		for range readers {
			all.Go(func() {
				buf := make([]byte, 3)
				for {
					n, err := s.Read(buf[:1+rand.IntN(3)])
					if err == io.EOF {
						return
					}
					if n == 0 || err != nil {
						t.Errorf("%d, %v", n, err)
						return
					}
					mu.Lock()
					for _, b := range buf[:n] {
						got[b]++
					}
					mu.Unlock()
				}
			})
		}
		text := make([]byte, len(got))
		for i := range text {
			text[i] = byte(i)
		}
		for range rounds {
			for left := text; len(left) > 0; {
				n, err := c.Write(left[:min(len(left), 1+rand.IntN(50))])
				if err != nil {
					t.Fatal(err)
				}
				left = left[n:]
			}
		}
		c.Close()
		all.Wait()
		for b, n := range got {
			if n != rounds {
				t.Fatalf("%d came %d times, want %d", b, n, rounds)
			}
		}
	}
}
