package daemon

import (
	"cmp"
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/brooddaemon/brood/scoreboard"
)

// connOnBoard returns a connection of a child that has nothing else, and its client. Nobody watches it yet.
func connOnBoard(t *testing.T) (*Conn, *net.TCPConn, *scoreboard.Board) {
	t.Helper()
	c, board := childOnBoard(t)
	c.settled, c.tokens, c.acceptor = sync.NewCond(&c.mu), make(chan struct{}, 1), &acceptor{}
	err := cmp.Or(board.Bear(0, scoreboard.Serve, 1, "start", time.Now()), board.SetPhase(0, scoreboard.PhaseServing))
	if err != nil {
		t.Fatal(err)
	}
	if c.eye, err = newEye(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.eye.epoll.Close() })
	s, client := socketPair(t)
	return &Conn{Conn: s, c: c, tcp: true, kind: kind{onClose: true}}, client, board
}

// A connection has one job after the other, each begun by what its client asks, and none once it is closed.
func TestDescribeBegins(t *testing.T) {
	conn, _, board := connOnBoard(t)
	c := conn.c
	shows := func(job uint64, text string, done uint64) {
		t.Helper()
		hint, err := board.Look(0)
		if err != nil {
			t.Fatal(err)
		}
		b, _, err := board.Child(0)
		if err != nil {
			t.Fatal(err)
		}
		if hint.Serial != job || b.Job != job || b.Text != text || hint.Done != done || len(c.tokens) != int(min(job, 1)) {
			t.Errorf("the slot shows job %d, job %d %q, %d done, %d tokens taken; want job %d %q, %d done", hint.Serial, b.Job, b.Text, hint.Done, len(c.tokens), job, text, done)
		}
	}
	conn.Describe("one")
	shows(1, "one", 0)
	conn.Describe("still one")
	shows(1, "still one", 0)
	one := conn.Context()
	conn.Idle()
	shows(0, "", 1)
	conn.Idle()
	shows(0, "", 1)

	type key struct{}
	ctx := conn.Begin(context.WithValue(t.Context(), key{}, "kept"), "two")
	shows(2, "two", 1)
	if ctx.Value(key{}) != "kept" || JobOf(ctx).Serial() != 2 || JobOf(one).Serial() != 1 || ctx.Err() != nil || one.Err() == nil {
		t.Errorf("job 2: value %v, job %d, %v; job 1: %d, %v", ctx.Value(key{}), JobOf(ctx).Serial(), ctx.Err(), JobOf(one).Serial(), one.Err())
	}
	inner := conn.Begin(t.Context(), "two, and what it is")
	shows(2, "two, and what it is", 1)
	conn.Close()
	shows(0, "", 2)
	if ctx.Err() == nil || inner.Err() == nil {
		t.Errorf("the contexts of a job that is over: %v, %v", ctx.Err(), inner.Err())
	}
	conn.Describe("three")
	shows(0, "", 2)
	if conn.running() != nil || c.jobs.n != 0 || c.finishing != 0 {
		t.Error("a job has begun on a connection that is closed")
	}
}

// What a job was begun for may end before the job, which goes on, or with it; if both have ended and nobody has looked in between, what is
// said of the job holds.
func TestBeginFollows(t *testing.T) {
	conn, _, _ := connOnBoard(t)
	for _, lost := range []bool{false, true} {
		parent, end := context.WithCancelCause(t.Context())
		ctx, job, want := conn.Begin(parent, "job"), conn.Context(), io.EOF
		if ctx.Err() != nil {
			t.Fatal(ctx.Err())
		}
		end(io.EOF)
		if lost {
			conn.running().cancel(ErrClientGone)
			want = ErrClientGone
		}
		if context.Cause(ctx) != want || (job.Err() != nil) != lost {
			t.Errorf("ended with %v, the job's with %v; want %v, and %v for the job", context.Cause(ctx), job.Err(), want, lost)
		}
		conn.Idle()
	}
}
