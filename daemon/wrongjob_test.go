package daemon_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/brooddaemon/brood/scoreboard"
)

// cyclesVar is how often stress tests try; the long form of TestNeverTheWrongJob has 100000 clients, which takes some minutes.
const cyclesVar = "DAEMON_CYCLES"

func cycles(n int) int {
	if more, err := strconv.Atoi(os.Getenv(cyclesVar)); err == nil {
		return more
	}
	return n
}

// timeUp returns a function that reports whether a stress test has run for as long as it may, however many cycles are left.
func timeUp(t *testing.T) func() bool {
	end := time.Now().Add(time.Minute)
	if os.Getenv(cyclesVar) != "" {
		end = time.Now().Add(time.Hour)
	}
	if d, ok := t.Deadline(); ok && d.Add(-time.Minute).Before(end) {
		end = d.Add(-time.Minute)
	}
	return func() bool { return time.Now().After(end) }
}

// B41: a client hangs up at the very moment at which its job ends and the next one begins in the same child. Whatever
// happens to the child, the next client gets its whole answer from a job that was not cancelled; also if several jobs run
// in it at once, whose children have the time to end them.
func TestNeverTheWrongJob(t *testing.T) {
	rows := []struct{ scenario, policy, concurrency, grace, wait string }{
		{lines, "kill", "1", "1ms", ""}, {web, "kill", "1", "-1s", ""}, {lines, "kill", "4", "20s", ""}, {web, "kill", "4", "20s", ""},
		{lines, "cancel", "1", "1ms", ""}, {web, "cancel", "1", "1ms", ""}, {lines, "cancel", "4", "1ms", ""}, {web, "cancel", "4", "1ms", ""},
		// The end of a job is hardly held back, so the verdict about its client often comes when the next one runs.
		{lines, "kill", "1", "1ms", "1us"}, {lines, "kill", "1", "-1s", "1us"}, {web, "kill", "1", "1ms", "1us"}, {web, "kill", "1", "-1s", "1us"},
		{lines, "kill", "4", "20s", "1us"}, {lines, "cancel", "1", "1ms", "1us"}, {web, "cancel", "4", "1ms", "1us"},
	}
	total := cycles(4000)
	if raceEnabled || testing.Short() {
		total = cycles(2000)
	}
	for _, c := range rows {
		t.Run(strings.Join([]string{c.scenario, c.policy, c.concurrency, c.grace, c.wait}, " "), func(t *testing.T) {
			t.Parallel()
			s := start(t, c.scenario, "POLICY="+c.policy, "BROOD_PREFORK=1", "BROOD_CONCURRENCY="+c.concurrency,
				"BROOD_KILL_GRACE="+c.grace, "VERDICT_WAIT="+c.wait, listen("tcp4"))
			addr := s.addr("tcp4")
			spared, n, over := 0, 0, timeUp(t)
			for ; n < total/len(rows) && !over(); n++ {
				// Most of them at about the job's end, so that few children are killed and many nearly so: to kill takes time.
				d := time.Duration(rand.IntN(2000)) * time.Microsecond
				wait := d + time.Duration(rand.IntN(4000))*time.Microsecond
				if n%8 == 0 {
					wait = time.Duration(rand.IntN(2000)) * time.Microsecond
				}
				before := s.board().Born
				var leaving sync.WaitGroup
				leaving.Go(func() { hangUp(t, c.scenario, addr, d, wait) })
				// The second one often waits already when the first one's job ends.
				if n%2 == 0 {
					leaving.Wait()
				}
				if err := fullAnswer(c.scenario, addr, n); err != nil {
					t.Fatalf("cycle %d: job of %v, client left after %v: %v", n, d, wait, err)
				}
				leaving.Wait()
				if s.board().Born == before {
					spared++
				}
			}
			b := s.board()
			t.Logf("%d clients were lost and %d skipped of %d; %d children ended with their job, %d of them killed",
				b.Lost, skipped(b), n, int(b.Born)-1, b.Killed)
			if spared == 0 || b.Lost == 0 || b.Died > 0 || (b.Born > 1) != (c.policy == "kill") {
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
