package daemon_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/brooddaemon/brood/scoreboard"
)

// cyclesVar is how many clients of TestNeverTheWrongJob hang up; a number in the environment makes it more.
const cyclesVar = "DAEMON_CYCLES"

func cycles(n int) int {
	if more, err := strconv.Atoi(os.Getenv(cyclesVar)); err == nil {
		return more
	}
	return n
}

// B41: a client hangs up at the very moment at which its job ends and the next one begins in the same child. Whatever
// happens to the child, the next client gets its whole answer from a job that was not cancelled.
func TestNeverTheWrongJob(t *testing.T) {
	total := cycles(3000)
	if raceEnabled {
		total = cycles(400)
	}
	for _, c := range []struct{ scenario, grace string }{
		{lines, "1ms"}, {lines, "-1s"}, {web, "1ms"}, {web, "-1s"},
	} {
		t.Run(c.scenario+" "+c.grace, func(t *testing.T) {
			t.Parallel()
			s := start(t, c.scenario, "POLICY=kill", "BROOD_PREFORK=1", "BROOD_KILL_GRACE="+c.grace, listen("tcp4"))
			addr := s.addr("tcp4")
			spared := 0
			for i := range total / 4 {
				// Most of them at about the job's end, so that few children are killed and many nearly so: to kill takes time.
				d := time.Duration(rand.IntN(2000)) * time.Microsecond
				wait := d + time.Duration(rand.IntN(4000))*time.Microsecond
				if i%8 == 0 {
					wait = time.Duration(rand.IntN(2000)) * time.Microsecond
				}
				before := s.board().Born
				var leaving sync.WaitGroup
				leaving.Go(func() { hangUp(t, c.scenario, addr, d, wait) })
				// The second one often waits already when the first one's job ends.
				if i%2 == 0 {
					leaving.Wait()
				}
				if err := fullAnswer(c.scenario, addr, i); err != nil {
					t.Fatalf("cycle %d: job of %v, client left after %v: %v", i, d, wait, err)
				}
				leaving.Wait()
				if s.board().Born == before {
					spared++
				}
			}
			b := s.board()
			t.Logf("%d of %d children ended with their job, %d of them killed", int(b.Born)-1, total/4, b.Killed)
			if spared == 0 || b.Born < 2 || b.Died > 0 {
				t.Errorf("it was never close: %d spared, %+v", spared, b.Status)
			}
		})
	}
}

// napRequest asks for a job of that length, which answers with the word if it was not cancelled.
func napRequest(scenario string, d time.Duration, word string) string {
	if scenario == web {
		return fmt.Sprintf("GET /nap?for=%v&word=%s HTTP/1.0\r\n\r\n", d, word)
	}
	return fmt.Sprintf("nap %v %s\n", d, word)
}

// hangUp is a client that does not wait for its answer.
func hangUp(t *testing.T, scenario, addr string, d, wait time.Duration) {
	conn, err := net.Dial("tcp4", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	if rand.IntN(2) == 0 {
		conn.(*net.TCPConn).SetLinger(0)
	}
	io.WriteString(conn, napRequest(scenario, d, "first"))
	// Not a wait for something: the moment of leaving is what the test varies.
	time.Sleep(wait)
}

// fullAnswer is a client that waits for its answer.
func fullAnswer(scenario, addr string, i int) error {
	conn, err := net.Dial("tcp4", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	word := fmt.Sprint("second", i)
	d := time.Duration(rand.IntN(1000)) * time.Microsecond
	if _, err := io.WriteString(conn, napRequest(scenario, d, word)); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		return err
	}
	if want := word + " true\n"; string(answer[max(0, len(answer)-len(want)):]) != want {
		return fmt.Errorf("answered %q, want %q", answer, want)
	}
	return nil
}

// With several jobs in a child a job is cancelled only for its own client.
func TestNeverTheWrongJobCancelled(t *testing.T) {
	t.Parallel()
	for _, scenario := range []string{lines, web} {
		t.Run(scenario, func(t *testing.T) {
			t.Parallel()
			s := start(t, scenario, "POLICY=cancel", "BROOD_PREFORK=1", "BROOD_CONCURRENCY=4", listen("tcp4"))
			addr := s.addr("tcp4")
			var clients sync.WaitGroup
			for range 2 {
				clients.Go(func() {
					for i := range cycles(400) {
						if err := fullAnswer(scenario, addr, i); err != nil {
							t.Error(err)
							return
						}
					}
				})
				clients.Go(func() {
					for range cycles(400) {
						d := time.Duration(rand.IntN(1000)) * time.Microsecond
						hangUp(t, scenario, addr, d, time.Duration(rand.IntN(1500))*time.Microsecond)
					}
				})
			}
			clients.Wait()
			b := s.await("rest", func(b *scoreboard.Snapshot) bool { return b.Children[0].Running == 0 })
			if b.Born != 1 || b.Lost == 0 {
				t.Errorf("the scoreboard: %+v", b.Status)
			}
		})
	}
}
