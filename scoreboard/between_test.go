package scoreboard

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// cutting is a file that somebody cuts short while it is being read.
type cutting struct {
	data  []byte
	reads int // that still succeed
}

func (c *cutting) ReadAt(p []byte, off int64) (int, error) {
	if c.reads--; c.reads < 0 {
		return 0, io.EOF
	}
	return bytes.NewReader(c.data).ReadAt(p, off)
}

func TestCutWhileRead(t *testing.T) {
	data := image(t)
	for reads := 0; ; reads++ {
		s, err := readFrom(&cutting{data, reads}, int64(len(data)))
		if err == nil {
			if reads < 5 || len(s.Children) != 2 {
				t.Errorf("%d reads were enough for %+v", reads, s)
			}
			return
		}
		if !errors.Is(err, ErrLayout) {
			t.Errorf("after %d reads: %v, want ErrLayout", reads, err)
		}
	}
}

// changing is a slot that looks different each time it is read, as if the child had stored one word in between.
type changing [][]byte

func (c *changing) ReadAt(p []byte, off int64) (int, error) {
	n := copy(p, (*c)[0][off:])
	if len(*c) > 1 {
		*c = (*c)[1:]
	}
	return n, nil
}

// One job's serial never comes with the other's inode: the parent would revoke the wrong job.
func TestLookBetween(t *testing.T) {
	slot := func(seq, job, inode uint64) []byte {
		s := make([]byte, SlotSize)
		order.PutUint64(s[sState:], uint64(Working))
		order.PutUint64(s[sSerial:], job)
		order.PutUint64(s[sSeq:], seq)
		order.PutUint64(s[sJob:], job)
		order.PutUint64(s[sInode:], inode)
		return s
	}
	for _, c := range []struct {
		name       string
		reads      changing
		job, inode uint64
	}{
		{"at rest", changing{slot(4, 7, 70)}, 7, 70},
		{"being written", changing{slot(5, 7, 70)}, 0, 0},
		{"no job", changing{slot(4, 0, 70)}, 0, 0},
		{"serial ahead of inode", changing{slot(4, 8, 70), slot(6, 8, 80)}, 0, 0},
		{"inode ahead of serial", changing{slot(4, 7, 80), slot(6, 8, 80)}, 0, 0},
		{"still being written", changing{slot(4, 8, 70), slot(5, 8, 70)}, 0, 0},
		{"written again", changing{slot(4, 7, 70), slot(6, 7, 70)}, 0, 0},
	} {
		h, err := look(&c.reads, 0, make([]byte, sClient))
		if err != nil || h.Job != c.job || h.Inode != c.inode || h.State != Working {
			t.Errorf("%s: %+v, %v; want job %d and inode %d", c.name, h, err, c.job, c.inode)
		}
	}
	if _, err := look(&cutting{slot(4, 7, 70), 1}, 0, make([]byte, sClient)); err == nil {
		t.Error("cut short at the second look, and no error")
	}
}

// A slot is read until it stays the same and nobody is writing; who never comes to rest is not waited for.
func TestTwice(t *testing.T) {
	slot := func(seq, job uint64) []byte {
		s := make([]byte, SlotSize)
		order.PutUint64(s[sSeq:], seq)
		order.PutUint64(s[sJob:], job)
		return s
	}
	restless := changing{}
	for n := range uint64(1000) {
		restless = append(restless, slot(2*n, n))
	}
	for _, c := range []struct {
		name  string
		reads changing
		job   uint64
		err   error
	}{
		{"at rest", changing{slot(4, 7)}, 7, nil},
		{"changed once", changing{slot(4, 7), slot(6, 8)}, 8, nil},
		{"changed behind its number", changing{slot(4, 8), slot(4, 7), slot(6, 9)}, 9, nil},
		{"being written", changing{slot(4, 7), slot(5, 8), slot(5, 8), slot(6, 9)}, 9, nil},
		{"stopped while it wrote", changing{slot(4, 7), slot(5, 8)}, 8, errTorn},
		{"never the same", restless, 100, errTorn},
	} {
		b, err := twice(&c.reads, 0, SlotSize, func(b []byte) bool { return order.Uint64(b[sSeq:])%2 == 0 })
		if err != c.err || order.Uint64(b[sJob:]) != c.job {
			t.Errorf("%s: job %d, %v; want %d, %v", c.name, order.Uint64(b[sJob:]), err, c.job, c.err)
		}
	}
}
