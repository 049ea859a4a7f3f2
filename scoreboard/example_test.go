package scoreboard_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/brooddaemon/brood/scoreboard"
)

// Whoever may read the file can say what each child does, and asks no process. Here a parent and its child write it first;
// the child would be another process, which has inherited the descriptor.
func Example() {
	dir, err := os.MkdirTemp("", "scoreboard")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "scoreboard")

	// The parent.
	board, err := scoreboard.Create(path, scoreboard.Identity{Name: "jobd", PID: os.Getpid()}, 4)
	if err != nil {
		log.Fatal(err)
	}
	defer board.Remove()
	if err := board.Bear(2, scoreboard.Serve, 1, "start", time.Now()); err != nil {
		log.Fatal(err)
	}
	if err := board.SetPhase(2, scoreboard.PhaseServing); err != nil {
		log.Fatal(err)
	}

	// The child.
	slot, err := scoreboard.Attach(board.FD(), 2)
	if err != nil {
		log.Fatal(err)
	}
	defer slot.Detach()
	now := time.Now()
	job := scoreboard.Record{Serial: 17, Started: now, Client: "192.0.2.7:40112", Text: "GET /report"}
	slot.SetWork(scoreboard.Work{State: scoreboard.Working, Since: now, Running: 1, Job: job})

	// Anybody.
	s, err := scoreboard.Read(path)
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range s.Children {
		fmt.Printf("%s, slot %d: %s on job %d for %s: %s\n", s.Name, c.Slot, c.State, c.Job, c.Client, c.Text)
	}

	// Output:
	// jobd, slot 2: working on job 17 for 192.0.2.7:40112: GET /report
}

// What the parent has decided is still there when it is dead. Since(0) is all that the ring holds; a reader that goes on gives
// the number of the last event that it has seen.
func ExampleRing() {
	dir, err := os.MkdirTemp("", "scoreboard")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "scoreboard")
	board, err := scoreboard.Create(path, scoreboard.Identity{Name: "jobd", PID: os.Getpid()}, 4)
	if err != nil {
		log.Fatal(err)
	}
	defer board.Remove()
	for _, e := range []scoreboard.Event{
		{Kind: scoreboard.EventSpawn, PID: 4720, Slot: 0, Generation: 1, Text: "start"},
		{Kind: scoreboard.EventKill, PID: 4720, Slot: 0, Generation: 1, Job: 2, Text: "client of job 2 has left"},
	} {
		e.Time = time.Now()
		if err := board.Record(e); err != nil {
			log.Fatal(err)
		}
	}

	ring, err := scoreboard.OpenRing(path)
	if err != nil {
		log.Fatal(err)
	}
	defer ring.Close()
	events, err := ring.Since(0)
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range events {
		fmt.Printf("%d %s %d: %s\n", e.Seq, e.Kind, e.PID, e.Text)
	}

	// Output:
	// 1 spawn 4720: start
	// 2 kill 4720: client of job 2 has left
}
