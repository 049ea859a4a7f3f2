package serve_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"strings"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/daemon/serve"
)

// connsMain is the whole program: func main.
func connsMain() {
	cfg := daemon.Config{
		Name:     "shout",
		Listen:   []string{"127.0.0.1:7000"},
		MainLoop: serve.Conns(shout),
	}
	cfg.Flags(flag.CommandLine)
	flag.Parse()
	if err := daemon.Run(context.Background(), cfg); err != nil {
		log.Fatal(err)
	}
}

// shout is called in a child for each connection, and ctx ends when the client has left.
func shout(ctx context.Context, conn net.Conn) {
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return
	}
	fmt.Fprint(conn, strings.ToUpper(line))
}

func ExampleConns() {
	answer, err := converse("conns", "hello\n")
	fmt.Print(answer, err)

	// Output:
	// HELLO
	// <nil>
}
