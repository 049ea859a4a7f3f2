package test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// Ten thousand connections through three children: every byte comes back, and each connection ends when the client has
// said that it is through. B30: nobody else holds it open.
func TestEchoReturnsEveryByte(t *testing.T) {
	t.Parallel()
	connections := 10_000
	if raceEnabled {
		connections = 2000
	}
	d := mustServe(t, openSite(t), "echod")
	const clients = 50
	work := make(chan int)
	failed := make(chan error, clients)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for i := range work {
				if err := echoOnce(d.addr, i); err != nil {
					failed <- fmt.Errorf("connection %d: %w", i, err)
					return
				}
			}
		})
	}
	var err error
feed:
	for i := range connections {
		select {
		case work <- i:
		case err = <-failed:
			break feed
		}
	}
	close(work)
	wg.Wait()
	if close(failed); err == nil {
		err = <-failed
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.await("children=3", "idle=3", "born=3", fmt.Sprintf("done=%d", connections)); err != nil {
		t.Error(err)
	}
}

// echoOnce sends some lines, now and then a lot of them, and checks what comes back.
func echoOnce(addr string, seed int) error {
	r := rand.New(rand.NewPCG(uint64(seed), 0))
	size := 1 + r.IntN(500)
	if seed%100 == 0 {
		size = 1 + r.IntN(300_000)
	}
	text := make([]byte, size)
	for i := range text {
		text[i] = byte(' ' + r.IntN(90))
		if r.IntN(80) == 0 {
			text[i] = '\n'
		}
	}
	conn, err := dial(addr)
	if err != nil {
		return err
	}
	c := conn.(*net.TCPConn)
	defer c.Close()
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(text)
		sent <- errors.Join(err, c.CloseWrite())
	}()
	back, err := io.ReadAll(c) // to the end: the server has closed it
	if err := errors.Join(err, <-sent); err != nil {
		return err
	}
	if !bytes.Equal(back, text) {
		return fmt.Errorf("sent %d bytes, %d came back", len(text), len(back))
	}
	return nil
}

// B30: when the server closes a connection its client sees the end at once, although other processes of the daemon are
// there that might hold a duplicate.
func TestClientSeesTheEndAtOnce(t *testing.T) {
	t.Parallel()
	d := mustServe(t, openSite(t), "jobs", "-listen", "127.0.0.1:0")
	v, err := ask(d.addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer v.conn.Close()
	if _, err := v.answer(); err != nil {
		t.Fatal(err)
	}
	v.conn.SetReadDeadline(time.Now().Add(patience))
	if n, err := v.r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("after the answer: %d bytes, %v; want the end", n, err)
	}
}
