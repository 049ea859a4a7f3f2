package daemon_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/brooddaemon/brood/netmon"
	"github.com/brooddaemon/brood/scoreboard"
)

// write puts a pair where the daemon of withPair looks for it.
func (p pair) write(s *site) {
	s.t.Helper()
	for file, content := range map[string]string{"cert.pem": p.cert, "key.pem": p.key} {
		if err := os.WriteFile(s.path(file), []byte(content), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
}

// withPair has a daemon listen with a certificate; more is what else the entry says.
func withPair(p pair, more string) func(*site) {
	return func(s *site) {
		p.write(s)
		s.cmd.Env = append(s.cmd.Env, "BROOD_LISTEN=127.0.0.1:0,cert=cert.pem,key=key.pem"+more)
	}
}

// secured connects over TLS, as a client who trusts the certificates of these pairs.
func (s *site) secured(over net.Conn, trusted ...pair) *tls.Conn {
	s.t.Helper()
	conn := tls.Client(over, &tls.Config{RootCAs: trust(trusted), ServerName: "127.0.0.1"})
	if err := conn.Handshake(); err != nil {
		s.t.Fatal(err)
	}
	return conn
}

func trust(pairs []pair) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, p := range pairs {
		pool.AppendCertsFromPEM([]byte(p.cert))
	}
	return pool
}

// shown connects, and returns the serial number of the certificate that the client sees.
func (s *site) shown(trusted ...pair) int64 {
	s.t.Helper()
	conn := s.secured(s.dial("tcp4"), trusted...)
	defer conn.Close()
	return serial(conn)
}

func serial(conn *tls.Conn) int64 {
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// A listener with a certificate speaks TLS, whoever accepts on it, and nothing is served there in the clear. Who leaves is noticed below
// it, and what ends a connection reaches its client.
func TestListenerTLS(t *testing.T) {
	for _, d := range []struct{ name, scenario, concurrency string }{
		{"Conns", lines, "1"},
		{"Listeners", raw, "4"},
		{"HTTP one at a time", web, "1"},
		{"HTTP four at a time", web, "4"},
	} {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, 7)
			s := launchAs(t, d.scenario, withPair(p, ""), "BROOD_PREFORK=1", "BROOD_CONCURRENCY="+d.concurrency).served()
			clear := s.dial("tcp4")
			io.WriteString(clear, "who\nGET /who HTTP/1.1\r\nHost: there\r\n\r\n")
			if said, _ := io.ReadAll(clear); len(said) > 0 && said[0] != 21 && !strings.Contains(string(said), "400 Bad Request") { // an alert
				t.Errorf("in the clear it says %q", said)
			}
			n := 0
			for _, b := range beginners[d.scenario] {
				if b.name == "GET" || b.name == "pipelined" {
					continue // net/http may end the job before the FIN is there, and then nobody works for him
				}
				conn, id := s.secured(s.dial("tcp4"), p), "job"+fmt.Sprint(n)
				if serial(conn) != 7 {
					t.Errorf("the certificate is %d", serial(conn))
				}
				b.begin(s, conn, id, false)
				e := s.event("begin", id)
				conn.Close() // close_notify, and FIN
				n++
				if got := s.lost(n)[n-1]; got.PID != e.PID || got.How != netmon.Closed || got.Proxy.IsValid() {
					t.Errorf("%s: told %+v", b.name, got)
				}
				if e := s.event("end", id); e.Text != "client gone" {
					t.Errorf("%s: the job ends: %s", b.name, e.Text)
				}
			}
		})
	}
}

// What a connection can do in the clear it can do over TLS.
func TestConnTLS(t *testing.T) {
	t.Parallel()
	p := newPair(t, 7)
	s := launchAs(t, lines, withPair(p, ""), "BROOD_PREFORK=1").served()
	conn := s.secured(s.dial("tcp4"), p)
	if got, want := ask(t, conn, "ends"), conn.LocalAddr().String()+" "+conn.RemoteAddr().String()+" TLS 1.3"; got != want {
		t.Errorf("the program sees %q, want %q", got, want)
	}
	conn = s.secured(s.dial("tcp4"), p)
	say(t, conn, "copy it word")
	if got, err := io.ReadAll(conn); err != nil || string(got) != strings.Repeat("word", 1000) {
		t.Errorf("copied %d bytes, %v", len(got), err)
	}
	if got := ask(t, s.secured(s.dial("tcp4"), p), "deadline"); got != "true" {
		t.Errorf("a deadline ends a read: %s", got)
	}
	// B30: an end of file reaches the client while the job still runs, and who leaves then was served.
	for _, verb := range []string{"close", "shut"} {
		conn := s.secured(s.dial("tcp4"), p)
		say(t, conn, verb+" "+verb)
		e := s.event("begin", verb)
		if rest, err := io.ReadAll(conn); err != nil && verb == "shut" || len(rest) > 0 {
			t.Errorf("%s: the client reads %q, %v", verb, rest, err)
		}
		conn.Close()
		s.open(verb)
		if e := s.event("end", verb); e.Text != "not cancelled" {
			t.Errorf("%s: the job ends: %s", verb, e.Text)
		}
		s.await("rest", func(b *scoreboard.Snapshot) bool { return b.Children[0].PID == e.PID && b.Children[0].Running == 0 })
	}
	if n := len(linesOf[lost](s, "lost")); n != 0 {
		t.Errorf("%d clients are said to have left", n)
	}
}

// Who makes no handshake does not keep a child to himself.
func TestHandshakeTakesTooLong(t *testing.T) {
	t.Parallel()
	p := newPair(t, 7)
	s := launchAs(t, lines, withPair(p, ""), "BROOD_PREFORK=1", "HANDSHAKE_WAIT=100ms").served()
	silent := s.dial("tcp4")
	if pid, _ := askWho(t, s.secured(s.dial("tcp4"), p), "who"); pid != s.serving()[0].PID {
		t.Error("another child has served")
	}
	if n, err := silent.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("the connection is open")
	}
}

// TLS and clear text side by side, with HTTP/2 where clients want it.
func TestListenersTLSAndClear(t *testing.T) {
	t.Parallel()
	p := newPair(t, 7)
	for _, secureFirst := range []bool{true, false} {
		s := launchAs(t, web, func(s *site) {
			p.write(s)
			entries := []string{"unix:socket", "127.0.0.1:0,cert=cert.pem,key=key.pem"}
			if secureFirst {
				entries[0], entries[1] = entries[1], entries[0]
			}
			s.cmd.Env = append(s.cmd.Env, "BROOD_LISTEN="+strings.Join(entries, " "))
		}, "BROOD_PREFORK=1", "BROOD_CONCURRENCY=8").served()
		pid := s.visit("unix").who()
		secured := &tlsSite{s, p.roots()}
		c, _ := secured.client()
		for range 2 {
			resp, err := c.Get("https://" + s.addr("tcp4") + "/who")
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.ProtoMajor != 2 || !strings.HasPrefix(string(body), fmt.Sprint(pid, " ")) || err != nil {
				t.Errorf("answered over %s: %q, %v; want %d", resp.Proto, body, err, pid)
			}
		}
	}
}

// A certificate that has been renewed is shown after a reload, and not before: also a child that takes the place of a dead one is like
// its siblings. Connections of old ones live on.
func TestCertificateRenewed(t *testing.T) {
	t.Parallel()
	one, two := newPair(t, 1), newPair(t, 2)
	s := launchAs(t, lines, withPair(one, ""), "BROOD_PREFORK=1").served()
	old := s.secured(s.dial("tcp4"), one)
	pid, _ := askWho(t, old, "gate one")
	two.write(s)
	s.reload()
	if got := s.shown(one, two); got != 2 {
		t.Errorf("after the reload the certificate is %d", got)
	}
	s.open("one")
	if rest, err := io.ReadAll(old); string(rest) != "bye\n" || err != nil {
		t.Errorf("the end of an old connection: %q, %v", rest, err)
	}
	eventually(t, "the old child to leave", func() bool { return gone(pid) })

	one.write(s)
	s.signal(syscall.SIGKILL, s.serving()[0].PID)
	s.await("another child", func(b *scoreboard.Snapshot) bool { return b.Died+b.Killed > 0 && b.State == "serving" })
	s.serving()
	if got := s.shown(one, two); got != 2 {
		t.Errorf("a child in the place of a dead one shows certificate %d", got)
	}
}

// A pair that cannot be used changes nothing, and the reason names its files.
func TestCertificateRefused(t *testing.T) {
	t.Parallel()
	one, two := newPair(t, 1), newPair(t, 2)
	s := launchAs(t, lines, withPair(one, ""), "BROOD_PREFORK=1").served()
	cert, key := s.path("cert.pem"), s.path("key.pem")
	for _, d := range []struct {
		name  string
		spoil func()
		wants []string
	}{
		{"another key", pair{two.cert, one.key}.writer(s), []string{cert, key, "private key does not match public key"}},
		{"no certificate", pair{"nothing", one.key}.writer(s), []string{cert, key, "failed to find any PEM data in certificate input"}},
		{"missing", func() { os.Remove(key) }, []string{key, "no such file"}},
		{"a pipe", func() { os.Remove(key); syscall.Mkfifo(key, 0o600) }, []string{key, "is no file"}},
	} {
		d.spoil()
		before := s.board().ReloadAt
		s.signal(syscall.SIGHUP, s.cmd.Process.Pid)
		b := s.await("the reload to fail: "+d.name, func(b *scoreboard.Snapshot) bool {
			return b.ReloadAt.After(before) && b.State == "serving"
		})
		for _, want := range d.wants {
			if b.ReloadOK || !strings.Contains(b.Reload, want) {
				t.Errorf("%s: the reload: %v %q, want %q in it", d.name, b.ReloadOK, b.Reload, want)
			}
		}
		if got := s.shown(one, two); got != 1 {
			t.Errorf("%s: the certificate is %d", d.name, got)
		}
	}
}

func (p pair) writer(s *site) func() { return func() { p.write(s) } }

// At the start it is an error that ends the daemon, with the same words.
func TestCertificateRefusedAtStart(t *testing.T) {
	t.Parallel()
	one, two := newPair(t, 1), newPair(t, 2)
	for _, d := range []struct {
		p     pair
		spoil func(s *site)
		want  []string
	}{
		{pair{one.cert, two.key}, func(*site) {}, []string{"cert.pem", "key.pem", "private key does not match public key"}},
		{one, func(s *site) { os.Remove(s.path("cert.pem")) }, []string{"cert.pem", "no such file"}},
	} {
		s := launchAs(t, lines, func(s *site) { withPair(d.p, "")(s); d.spoil(s) })
		if !s.over(patience) || s.cmd.ProcessState.Success() {
			t.Fatalf("the daemon: %v", s.cmd.ProcessState)
		}
		for _, want := range d.want {
			if !strings.Contains(s.log(), want) {
				t.Errorf("the log has no %q:\n%s", want, s.log())
			}
		}
	}
}

// The parent reads a key that its children may not, and tells of one that everybody may, once.
func TestKeyOfRoot(t *testing.T) {
	needRoot(t)
	t.Parallel()
	p := newPair(t, 7)
	s := launchAs(t, shells, withPair(p, ""), "BROOD_USER=nobody", "BROOD_ENVIRON=DAEMON_* GORACE", "BROOD_PREFORK=1").served()
	if got := tellOn(t, s.secured(s.dial("tcp4"), p), "read "+s.path("key.pem")); !strings.HasSuffix(got, syscall.EACCES.Error()) {
		t.Errorf("a child reads the key: %q", got)
	}
	if got := tellOn(t, s.secured(s.dial("tcp4"), p), "pid"); got != fmt.Sprint(s.serving()[0].PID) {
		t.Errorf("answered %q", got)
	}
	const warning = "everybody on this machine has access to the key"
	if strings.Contains(s.log(), warning) {
		t.Error("the log warns of a key that is a secret")
	}
	if err := os.Chmod(s.path("key.pem"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.reload()
	s.reload()
	if n := strings.Count(s.log(), warning); n != 1 {
		t.Errorf("the log warns %d times:\n%s", n, s.log())
	}
}

// An upgrade keeps what each generation has.
func TestCertificateUpgrade(t *testing.T) {
	t.Parallel()
	one, two := newPair(t, 1), newPair(t, 2)
	s := launchAs(t, unhurried, withPair(one, ""), "BROOD_PREFORK=1").served()
	two.write(s)
	s.upgradeWhile(func() {})
	s.serving()
	s.signal(syscall.SIGKILL, s.serving()[0].PID)
	s.await("another child", func(b *scoreboard.Snapshot) bool { return b.Died+b.Killed > 0 && b.State == "serving" })
	s.serving()
	if got := s.shown(one, two); got != 1 {
		t.Errorf("a child of before shows certificate %d", got)
	}
	s.reload()
	if got := s.shown(one, two); got != 2 {
		t.Errorf("after a reload the certificate is %d", got)
	}
}

// An upgrade to a listener whose certificate cannot be used is refused: children of before would listen there, too, and none could take
// the place of one that dies.
func TestCertificateUpgradeRefused(t *testing.T) {
	t.Parallel()
	one, two := newPair(t, 1), newPair(t, 2)
	listen := func(s *site, entries string) {
		t.Helper()
		if err := os.WriteFile(s.path("listen"), []byte(entries), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := launchAs(t, named, func(s *site) { listen(s, "127.0.0.1:0") }, "BROOD_PREFORK=1").served()
	pair{two.cert, one.key}.write(s)
	listen(s, "127.0.0.1:0 127.0.0.1:0,cert=cert.pem,key=key.pem")
	s.signal(syscall.SIGUSR2, s.cmd.Process.Pid)
	b := s.await("the upgrade to fail", func(b *scoreboard.Snapshot) bool { return !b.ReloadAt.IsZero() })
	for _, want := range []string{s.path("cert.pem"), s.path("key.pem"), "private key does not match public key"} {
		if b.ReloadOK || !strings.Contains(b.Reload, want) {
			t.Errorf("the upgrade: %v %q, want %q in it", b.ReloadOK, b.Reload, want)
		}
	}
	s.signal(syscall.SIGKILL, s.serving()[0].PID)
	s.await("another child", func(b *scoreboard.Snapshot) bool { return b.Died+b.Killed > 0 && b.State == "serving" })
	s.serving()

	one.write(s)
	s.signal(syscall.SIGUSR2, s.cmd.Process.Pid)
	s.await("the upgrade", func(b *scoreboard.Snapshot) bool { return b.ReloadOK && strings.Count(b.Listen, "127.0.0.1:") == 3 })
}

// Clients that are not made of the same code.
func TestOtherClients(t *testing.T) {
	t.Parallel()
	p := newPair(t, 7)
	run := func(name string, arg ...string) string {
		t.Helper()
		path, err := exec.LookPath(name)
		if err != nil {
			t.Skip(err)
		}
		cmd := exec.Command(path, arg...)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		io.WriteString(in, "who\n")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", cmd, err, out)
		}
		return string(out)
	}
	t.Run("openssl", func(t *testing.T) {
		s := launchAs(t, lines, withPair(p, ""), "BROOD_PREFORK=1").served()
		out := run("openssl", "s_client", "-connect", s.addr("tcp4"), "-CAfile", s.path("cert.pem"), "-verify_return_error", "-quiet", "-no_ign_eof")
		if want := fmt.Sprintf("%d %d\n", s.serving()[0].PID, s.serving()[0].Slot); !strings.Contains(out, want) {
			t.Errorf("it prints %q", out)
		}
	})
	t.Run("curl", func(t *testing.T) {
		s := launchAs(t, web, withPair(p, ",proxy=v1"), "BROOD_PREFORK=1", "BROOD_CONCURRENCY=4").served()
		out := run("curl", "-sS", "--haproxy-protocol", "--cacert", s.path("cert.pem"), "https://"+s.addr("tcp4")+"/who")
		if want := fmt.Sprintf("%d %d", s.serving()[0].PID, s.serving()[0].Slot); out != want {
			t.Errorf("it prints %q", out)
		}
	})
}
