package daemon

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/inherit"
	"github.com/brooddaemon/brood/scoreboard"
)

// What is too long to be read by the next program is not handed over: the parent goes on, and says why.
func TestHandoverTooLong(t *testing.T) {
	before := maxHandover
	defer func() { maxHandover = before }()
	h := &handover{Agreement: inherit.Spoken}
	for _, job := range []uint64{1, 2} {
		line := strings.Repeat("\x01", maxLine)
		h.Outputs = append(h.Outputs, handedOutput{Ledger: &ledger{Open: map[uint64]*visit{job: {Job: job, Line: line}}}})
	}
	f, err := h.write()
	if err != nil {
		t.Fatal(err)
	}
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	for most, fits := range map[int64]bool{st.Size(): true, st.Size() - 2: false} {
		maxHandover = most
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Dup(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readHandover(fd); (err == nil) != fits {
			t.Errorf("%d bytes of at most %d are read: %v", st.Size(), most, err)
		}
		again, err := h.write()
		if (err == nil) != fits {
			t.Errorf("%d bytes of at most %d are written: %v", st.Size(), most, err)
		}
		if err := again.Close(); err != nil && !errors.Is(err, os.ErrInvalid) {
			t.Error(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// A program that knows another layout of the scoreboard hears that on its trial; one that says nothing of it is older than the question.
func TestHandoverLayout(t *testing.T) {
	for layout, fits := range map[uint32]bool{0: true, scoreboard.Version: true, scoreboard.Version + 1: false} {
		h := &handover{Agreement: inherit.Spoken, Layout: layout}
		if err := h.understood(inherit.Spoken); (err == nil) != fits {
			t.Errorf("layout %d: %v", layout, err)
		}
	}
}
