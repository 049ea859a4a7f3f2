package test

import (
	"sync"
	"time"
)

// Traffic is 500 new connections a second and 16 clients who keep theirs and ask every 80 ms. The moments are fixed in
// advance, whether or not others have been served, and the time of a request counts from its moment: a server that stands
// still for a while is charged for all who would have come.
const (
	trafficEvery = 2 * time.Millisecond
	keepers      = 16
	keeperEvery  = 80 * time.Millisecond
)

// An arrival is a request of the traffic.
type arrival struct {
	at   time.Time // when it was planned
	took time.Duration
	kept bool // on a connection that had been used before
	err  error
}

type traffic struct {
	addr, path string
	stop       chan struct{}
	once       sync.Once
	clients    sync.WaitGroup

	mu   sync.Mutex
	done []arrival
}

func startTraffic(url string) *traffic {
	tr := &traffic{stop: make(chan struct{})}
	tr.addr, tr.path = split(url)
	begun := time.Now()
	tr.clients.Go(func() {
		tr.moments(begun, trafficEvery, func(at time.Time) {
			tr.clients.Go(func() { tr.finish(tr.ask(at, nil)) })
		})
	})
	for i := range keepers {
		tr.clients.Go(func() { tr.keeper(begun.Add(time.Duration(i) * keeperEvery / keepers)) })
	}
	return tr
}

// moments calls f at each planned moment, or as soon after it as it can.
func (tr *traffic) moments(at time.Time, every time.Duration, f func(at time.Time)) {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	for {
		select {
		case <-tr.stop:
			return
		case <-timer.C:
		}
		f(at)
		at = at.Add(every)
		timer.Reset(time.Until(at))
	}
}

// keeper keeps its connection until the server says that it ends there. It does not try again when that fails.
func (tr *traffic) keeper(at time.Time) {
	var kept *visit
	tr.moments(at, keeperEvery, func(at time.Time) { kept = tr.keep(tr.ask(at, kept)) })
	if kept != nil {
		kept.conn.Close()
	}
}

// ask asks on a connection, or on a new one.
func (tr *traffic) ask(at time.Time, v *visit) (*visit, arrival) {
	a := arrival{at: at, kept: v != nil}
	if v == nil {
		v, a.err = visitTo(tr.addr)
	}
	if a.err == nil {
		a.err = v.send(tr.path)
	}
	if a.err == nil {
		_, a.err = v.answer()
	}
	a.took = time.Since(at)
	return v, a
}

// finish notes what became of a request and hangs up.
func (tr *traffic) finish(v *visit, a arrival) {
	if v != nil {
		v.conn.Close()
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.done = append(tr.done, a)
}

// keep is finish, but returns the connection if it can be used again.
func (tr *traffic) keep(v *visit, a arrival) *visit {
	if v == nil || a.err != nil || v.last {
		tr.finish(v, a)
		return nil
	}
	tr.finish(nil, a)
	return v
}

// end lets the clients finish who are there.
func (tr *traffic) end() {
	tr.once.Do(func() { close(tr.stop) })
	tr.clients.Wait()
}
