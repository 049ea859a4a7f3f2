package test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// B40: a client that closes as soon as it has its answer was served, and nobody is punished for that: not the child that
// has just finished, nor the next job in it.
func TestServedClientIsNotLost(t *testing.T) {
	t.Parallel()
	d := mustServe(t, openSite(t), "jobs", "-prefork", "2")
	const requests = 500
	kinds := []string{"sleep", "spin"}
	for i := range requests {
		id := fmt.Sprintf("r%d", i)
		body, err := get(fmt.Sprintf("%s/job?seconds=0&kind=%s&id=%s", d.addr, kinds[i%2], id))
		if err != nil || !strings.HasPrefix(body, "done id="+id+" ") {
			t.Fatalf("request %d: %q, %v", i, body, err)
		}
	}
	if _, err := d.await("idle=2", "born=2", "lost=0", "killed=0", fmt.Sprintf("done=%d", requests)); err != nil {
		t.Error(err)
	}
}

// B41: a client hangs up at about the moment at which its job ends, and the next client is already waiting for the same
// child. Whatever becomes of the child, the next client gets its answer.
func TestNextJobIsNeverHit(t *testing.T) {
	t.Parallel()
	cycles := 300
	if raceEnabled {
		cycles = 100
	}
	d := mustServe(t, openSite(t), "jobs", "-prefork", "1")
	const job = 5 * time.Millisecond
	kinds := []string{"sleep", "spin"}
	for i := range cycles {
		url := fmt.Sprintf("%s/job?seconds=%v&kind=%s&id=", d.addr, job.Seconds(), kinds[i/2%2])
		leaving, err := ask(url + "leaving")
		if err != nil {
			t.Fatal(err)
		}
		next, err := ask(url + "next")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(job/2 + time.Duration(rand.Int64N(int64(job)))) // the moment that is tried, not a wait
		if err := leaving.leave([]string{"fin", "rst"}[i%2]); err != nil {
			t.Fatal(err)
		}
		body, err := next.answer()
		next.conn.Close()
		if err != nil || !strings.HasPrefix(body, "done id=next ") {
			st, _ := d.status()
			t.Fatalf("cycle %d: the next client got %q, %v\n%v", i, body, err, st)
		}
	}
	st, err := d.await("children=1", "idle=1", "died=0")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %d clients left before the end of their job; %d children were needed",
		st.Status.Lost, cycles, st.Status.Born)
}
