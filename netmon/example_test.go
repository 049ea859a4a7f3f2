package netmon_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/brooddaemon/brood/netmon"
)

// A client leaves while this process still serves it.
func Example() {
	var config net.ListenConfig
	config.SetMultipathTCP(false) // whose clients cannot be watched in the table
	listener, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	server, err := listener.Accept()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()

	src, choice := netmon.Open(netmon.DefaultFS)
	defer src.Close()
	log.Print("clients are watched by ", choice)
	monitor := netmon.NewMonitor(netmon.DefaultFS, src)
	ports := []uint16{netip.MustParseAddrPort(listener.Addr().String()).Port()}
	pids := []int{os.Getpid()}

	client.Close()
	for range 1000 {
		time.Sleep(10 * time.Millisecond)
		lost, err := monitor.Poll(nil, ports, pids)
		if err != nil {
			log.Fatal(err)
		}
		for _, l := range lost {
			fmt.Println("the client has", l.How, "the connection:", l.Foreign.String() == client.LocalAddr().String())
			return
		}
	}

	// Output:
	// the client has closed the connection: true
}

// Watch the clients of two children that serve port 8080 and a Unix socket, with a look
// four times a second.
func ExampleMonitor() {
	children := []int{4711, 4712}
	src, choice := netmon.Open(netmon.DefaultFS)
	log.Print("TCP clients are watched by ", choice)
	monitor := netmon.NewMonitor(netmon.DefaultFS, src)
	if u := netmon.NewUnix(); u.Probe() == nil {
		monitor.WatchUnix(u, "/run/app.sock")
	}
	var lost []netmon.Lost
	for range time.Tick(250 * time.Millisecond) {
		var err error
		lost, err = monitor.Poll(lost[:0], []uint16{8080}, children)
		if err != nil {
			log.Print(err)
		}
		if choice, changed := src.Changed(); changed {
			log.Print("from now on TCP clients are watched by ", choice)
		}
		for _, l := range lost {
			fmt.Printf("%v%s, served by %d, has %v the connection\n", l.Foreign, l.Path, l.PID, l.How)
		}
	}
}

// Ask after one connection again and again, without looking at the others.
func ExampleDiag_Lookup() {
	diag := netmon.NewDiag()
	defer diag.Close()
	rows, err := diag.Snapshot(nil, netmon.Filter{Ports: []uint16{8080}, States: netmon.Established.Mask()})
	if err != nil {
		log.Fatal(err)
	}
	states, err := diag.Lookup(nil, rows)
	if err != nil {
		log.Fatal(err)
	}
	for i, state := range states {
		if state != netmon.Established {
			fmt.Println(rows[i].Remote, "has left since")
		}
	}
}

// List the connections to port 22, in another process' network namespace if there is an
// argument.
func ExampleTable() {
	fs := netmon.DefaultFS
	if len(os.Args) > 1 {
		fs = netmon.FS("/proc/" + os.Args[1])
	}
	rows, err := netmon.NewTable(fs).Snapshot(nil, netmon.Filter{
		Ports:  []uint16{22},
		States: netmon.Established.Mask() | netmon.CloseWait.Mask(),
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range rows {
		fmt.Println(c.Local, c.Remote, c.State)
	}
}
