package scoreboard

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// besides measures the yardstick, a pwrite(2) of 64 bytes into the board's own file system, in the same run as op, and
// reports how many of them one op costs.
func besides(b *testing.B, board *Board, op func()) {
	f, err := os.OpenFile(board.path+".yard", os.O_RDWR|os.O_CREATE, 0o600)
	must(b, err)
	defer os.Remove(f.Name())
	defer f.Close()
	var line [64]byte
	var ours, yard time.Duration
	for b.Loop() {
		begun := time.Now()
		for range 100 {
			op()
		}
		between := time.Now()
		for range 100 {
			f.WriteAt(line[:], 0)
		}
		ours += between.Sub(begun)
		yard += time.Since(between)
	}
	b.ReportMetric(float64(ours.Nanoseconds())/float64(100*b.N), "op-ns")
	b.ReportMetric(float64(yard.Nanoseconds())/float64(100*b.N), "pwrite-ns")
	b.ReportMetric(float64(ours)/float64(yard), "pwrites/op")
	b.ReportMetric(0, "ns/op") // of both together: means nothing
}

// BenchmarkState is what a child pays to say that it has become busy.
func BenchmarkState(b *testing.B) {
	board := inMemory(b, 150)
	s := attach(b, board, 70)
	now := time.Now()
	besides(b, board, func() { s.SetState(Working, now) })
}

// BenchmarkShow is what a child pays to describe a job.
func BenchmarkShow(b *testing.B) {
	board := inMemory(b, 150)
	s := attach(b, board, 70)
	r := recordOf(7)
	besides(b, board, func() { s.Show(r) })
}

// BenchmarkWork is what a child pays for a job that is like the one before.
func BenchmarkWork(b *testing.B) {
	board := inMemory(b, 150)
	s := attach(b, board, 70)
	now := time.Now()
	w := Work{State: Working, Since: now, Running: 1, Job: recordOf(7)}
	besides(b, board, func() {
		w.Job.Serial++
		w.Job.Started = now.Add(time.Duration(w.Job.Serial))
		s.SetWork(w)
		s.SetWork(Work{State: Idle, Since: now, Done: w.Job.Serial})
	})
}

// BenchmarkAttention is a child's look at all the others.
func BenchmarkAttention(b *testing.B) {
	board := inMemory(b, 150)
	s := attach(b, board, 70)
	besides(b, board, func() { s.spare(151) })
}

// BenchmarkLook is the parent's look at one busy child.
func BenchmarkLook(b *testing.B) {
	board := inMemory(b, 150)
	attach(b, board, 70).Show(recordOf(7))
	besides(b, board, func() { board.Look(70) })
}

// BenchmarkRead is a reader's snapshot of 150 busy children.
func BenchmarkRead(b *testing.B) {
	board := inMemory(b, 150)
	for slot := range 150 {
		must(b, board.Bear(slot, Serve, 1, "start", time.Now()))
		must(b, board.SetPhase(slot, PhaseServing))
		attach(b, board, slot).Show(recordOf(7))
	}
	besides(b, board, func() {
		if s, err := Read(board.path); err != nil || len(s.Children) != 150 {
			b.Fatal(s, err)
		}
	})
}

// BenchmarkDuties is what it takes to look what all the others do, of whom there are few or many on a board of 1024 slots.
func BenchmarkDuties(b *testing.B) {
	for _, children := range []int{8, 32, 256, 1024} {
		b.Run(fmt.Sprint(children), func(b *testing.B) {
			board, err := Create(b.TempDir()+"/scoreboard", Identity{}, 1024)
			if err != nil {
				b.Fatal(err)
			}
			defer board.Remove()
			for slot := range children {
				must(b, board.Bear(slot, Serve, 1, "start", time.Now()))
			}
			s, err := Attach(board.FD(), 0)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				s.Duties()
			}
		})
	}
}
