package daemon_test

import (
	"bufio"
	"strings"
	"testing"
)

// B46: whoever accepts the connection, the kernel looks after a client who falls silent for as long as is configured.
func TestClientTimeoutOptions(t *testing.T) {
	for _, c := range []struct{ timeout, want string }{
		{"", "1 15 15 4 75000"}, {"10s", "1 2 2 4 10000"}, {"12500ms", "1 2 2 4 12500"}, {"-1s", "0 7200 75 9 0"},
	} {
		for _, scenario := range []string{lines, raw, web} {
			t.Run(scenario+" "+c.timeout, func(t *testing.T) {
				t.Parallel()
				s := start(t, scenario, "BROOD_PREFORK=1", "BROOD_CLIENT_TIMEOUT="+c.timeout)
				for _, network := range networks() {
					if network == "unix" {
						continue
					}
					conn := s.dial(network)
					if scenario == lines {
						say(t, conn, "options")
					} else {
						request(t, conn, "GET", "/options", "")
					}
					got, err := bufio.NewReader(conn).ReadString('\n')
					if got = strings.TrimSpace(got); err != nil || got != c.want {
						t.Errorf("%s: keep-alive, idle, interval, count, timeout are %q, %v, want %q", network, got, err, c.want)
					}
				}
			})
		}
	}
}
