package netmon_test

import (
	"fmt"
	"log"
	"os"
	"time"

	"github.com/brooddaemon/brood/netmon"
)

// Watch the clients of two children that serve port 8080, with a look four times a
// second.
func ExampleMonitor() {
	children := []int{4711, 4712}
	monitor := netmon.NewMonitor(netmon.DefaultFS, nil)
	var lost []netmon.Lost
	for range time.Tick(250 * time.Millisecond) {
		var err error
		lost, err = monitor.Poll(lost[:0], []uint16{8080}, children)
		if err != nil {
			log.Print(err)
		}
		for _, l := range lost {
			fmt.Printf("%v, served by %d, has %v the connection\n", l.Foreign, l.PID, l.How)
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
