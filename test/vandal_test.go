package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// vandalize asks one child of the vandal's for something.
func (d *server) vandalize(what string) error {
	v, err := visitTo(d.addr)
	if err != nil {
		return err
	}
	defer v.conn.Close()
	v.conn.SetDeadline(time.Now().Add(requestTime))
	fmt.Fprintln(v.conn, what)
	line, err := v.r.ReadString('\n')
	if err == nil && line[:2] != "ok" {
		err = errors.New(line)
	}
	return err
}

// A child cuts the scoreboard short, again and again and everywhere. Nobody dies of it: not the parent, not the other children,
// which go on to write to it, not who reads it; the parent makes it whole again, children that are started then find their place,
// and the log tells.
func TestBoardCut(t *testing.T) {
	if raceEnabled {
		// A file that is cut in the middle of that is fatal, whatever the goroutine has asked for: see race_amd64.s of Go's runtime.
		t.Skip("the race detector does what is atomic on the thread's own stack")
	}
	t.Parallel()
	s := openSite(t)
	d, err := s.serve(nil, "vandal", "-prefork", "4")
	if err != nil {
		t.Fatal(err)
	}
	before, err := d.status()
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 { // neighbours at work
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := d.vandalize("pass"); err != nil {
					t.Errorf("job %d of a neighbour: %v", n, err)
					return
				}
			}
		})
	}
	wg.Go(func() { // readers: they get a board or a reason, and do not crash
		for {
			select {
			case <-stop:
				return
			default:
			}
			for _, verb := range []string{"status", "events"} {
				out, err := s.command("brood", verb, "--json", d.run).CombinedOutput()
				exit := (*exec.ExitError)(nil)
				if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) || bytes.Contains(out, []byte("goroutine ")) {
					t.Errorf("brood %s: %v\n%s", verb, err, out)
					return
				}
			}
		}
	})
	for i := range scaled(10, 40) {
		for _, size := range []int{0, 100, 4096, 5000, 4096 + 512*3 + 130, 100_000} {
			if err := d.vandalize(fmt.Sprint("cut ", size)); err != nil {
				t.Errorf("round %d: cut at %d: %v", i, size, err)
			}
		}
	}
	close(stop)
	wg.Wait()
	if t.Failed() {
		return
	}
	// It is whole, and has all that the parent knows; every child that was there is.
	after, err := d.await("state=serving", "children=4", "idle=4", "died=0", "killed=0", "born=4")
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range after.Children {
		if b := before.Children[i]; c.PID != b.PID || c.Slot != b.Slot || c.Cause != b.Cause || c.Generation != b.Generation {
			t.Errorf("%+v was %+v", c, b)
		}
	}
	if after.Daemon != before.Daemon || after.Listen != before.Listen {
		t.Errorf("the header is %+v, was %+v", after, before)
	}
	const told = "the scoreboard was damaged by somebody"
	if err := eventually(patience, func() error {
		if log, err := os.ReadFile(d.log); err != nil || !bytes.Contains(log, []byte(told)) {
			return fmt.Errorf("the log does not say %q (%v)", told, err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	// New children find their places.
	if err := d.vandalize("cut 0"); err != nil {
		t.Error(err)
	}
	if out, err := s.command("brood", "reload", d.run).CombinedOutput(); err != nil {
		t.Errorf("reload: %v %s", err, out)
	}
	if _, err := d.await("generation=2", "children=4", "idle=4", "died=0"); err != nil {
		t.Error(err)
	}
}

// A child writes over the header, so that it is none any more, or tells of another number of slots. The parent takes nothing from
// there, not even when it is replaced, and puts it right, so that new children find their places.
func TestBoardBeheaded(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	d, err := s.serve(nil, "vandal", "-prefork", "3", "-soak", "0s")
	if err != nil {
		t.Fatal(err)
	}
	before, err := d.status()
	if err != nil {
		t.Fatal(err)
	}
	for i, how := range []string{"behead", "count 1"} {
		for _, verb := range []string{"upgrade", "reload"} {
			if err := d.vandalize(how); err != nil {
				t.Fatal(err)
			}
			if out, err := s.command("brood", verb, d.run).CombinedOutput(); err != nil {
				t.Fatalf("%s, %s: %v %s", how, verb, err, out)
			}
		}
		after, err := d.await(fmt.Sprint("generation=", i+2), "children=3", "idle=3", "died=0", "killed=0")
		if err != nil {
			t.Fatal(err)
		}
		if after.Daemon != before.Daemon || after.Listen != before.Listen {
			t.Errorf("%s: the header is %+v, was %+v", how, after, before)
		}
	}
}

// A child that writes nonsense into its slot, the parent's part, too, is shown as nonsense. The parent acts on none of it.
func TestBoardFilled(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	d, err := s.serve(nil, "vandal", "-prefork", "2")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- d.vandalize("fill") }()
	for filling := true; filling; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			filling = false
		default:
			out, err := s.command("brood", "status", "--json", d.run).Output()
			if err != nil || !json.Valid(out) {
				t.Fatalf("%v: %s", err, out)
			}
			if out, err = s.command("brood", "status", d.run).Output(); err != nil || bytes.IndexByte(out, 0xff) >= 0 {
				t.Fatalf("%v: %q", err, out)
			}
			if _, lookErr := exec.LookPath("python3"); lookErr == nil {
				if out, complaint, err := reader(t, filepath.Join(d.run, "scoreboard")); err != nil || bytes.IndexByte(out, 0xff) >= 0 {
					t.Fatalf("%v %s: %q", err, complaint, out)
				}
			}
		}
	}
	for range 10 {
		if err := d.vandalize("pass"); err != nil {
			t.Error(err)
		}
	}
	if st, err := d.status(); err != nil || st.Status.Died != 0 || st.Status.Killed != 0 || st.Status.Born != 2 {
		t.Errorf("%v: %v", err, st)
	}
	if out, err := s.command("brood", "stop", d.run).CombinedOutput(); err != nil {
		t.Errorf("stop: %v %s", err, out)
	}
}
