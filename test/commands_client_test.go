package test

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// request asks and prints the answer. With "!" the request has to fail.
func cmdRequest(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, false, args, 1, "request ADDR/PATH")
	body, err := get(args[0])
	if neg {
		if err == nil {
			ts.Fatalf("answered: %s", body)
		}
		return
	}
	ts.Check(err)
	io.WriteString(ts.Stdout(), body)
}

// everyone gets an answer from N different children. Each of N connections, on which nothing has been said yet, keeps a
// child of its own busy, if a child runs one job at a time; then all of them ask.
func cmdEveryone(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "everyone N ADDR/PATH")
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	addr, path := split(args[1])
	ts.Check(eventually(patience, func() error {
		visits := make([]*visit, n)
		for i := range visits {
			if visits[i], err = visitTo(addr); err != nil {
				return err
			}
			defer visits[i].conn.Close()
		}
		// Whoever is asked before that may be done, and take another one of them.
		if err := eventually(patience, func() error { return accepted(visits) }); err != nil {
			return err
		}
		pids, answers := map[string]bool{}, ""
		for _, v := range visits {
			if err := v.send(path); err != nil {
				return err
			}
			body, err := v.answer()
			if err != nil {
				return err
			}
			pid, _, _ := strings.Cut(body, " ")
			pids[pid], answers = true, answers+body
		}
		if len(pids) != n {
			return fmt.Errorf("%d of %d children have answered", len(pids), n)
		}
		io.WriteString(ts.Stdout(), answers)
		return nil
	}))
}

// line sends a line to a daemon that speaks in lines, and prints the line that comes back.
func cmdLine(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "line ADDR TEXT")
	c, err := dial(args[0])
	ts.Check(err)
	defer c.Close()
	_, err = fmt.Fprintln(c, args[1])
	ts.Check(err)
	reply := make([]byte, len(args[1])+1)
	_, err = io.ReadFull(c, reply)
	ts.Check(err)
	ts.Stdout().Write(reply)
}

// ask sends a request and does not wait for the answer. CLIENT becomes the address of this end, as the daemon sees it.
func cmdAsk(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "ask ID ADDR/PATH")
	v, err := ask(args[1])
	ts.Check(err)
	siteOf(ts).visits[args[0]] = v
	ts.Setenv("CLIENT", v.conn.LocalAddr().String())
}

func visitOf(ts *testscript.TestScript, id string) *visit {
	v := siteOf(ts).visits[id]
	if v == nil {
		ts.Fatalf("nothing was asked by the name of %s", id)
	}
	delete(siteOf(ts).visits, id)
	return v
}

// answer waits for the answer to what was asked, and prints it. With "!" it must be an error, or the connection ends, and
// that is printed.
func cmdAnswer(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, false, args, 1, "answer ID")
	v := visitOf(ts, args[0])
	defer v.conn.Close()
	body, err := v.answer()
	if neg {
		if err == nil {
			ts.Fatalf("answered: %s", body)
		}
		fmt.Fprintln(ts.Stdout(), err)
		return
	}
	ts.Check(err)
	io.WriteString(ts.Stdout(), body)
}

// leave hangs up before the answer: in good order, or with a reset.
func cmdLeave(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "leave ID fin|rst")
	ts.Check(visitOf(ts, args[0]).leave(args[1]))
}

// load keeps asking, 100 times a second, half of the clients on a new connection for each request and half on kept ones.
// "load stop" waits for MINIMUM answers, ends the load, and fails if a single request has failed.
func cmdLoad(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "load start ADDR/PATH | load stop MINIMUM")
	s := siteOf(ts)
	switch args[0] {
	case "start":
		s.load = startLoad(args[1])
	case "stop":
		minimum, err := strconv.Atoi(args[1])
		ts.Check(err)
		err = s.load.finish(minimum)
		fmt.Fprintln(ts.Stdout(), s.load)
		ts.Check(err)
	}
}

// closer listens, and closes every connection as soon as it has one: a database that goes away. CLOSER is its address.
func cmdCloser(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 0, "closer")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	s := siteOf(ts)
	s.undo = append(s.undo, func() { l.Close() })
	ts.Setenv("CLOSER", l.Addr().String())
}
