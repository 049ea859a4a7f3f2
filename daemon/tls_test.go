package daemon_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/daemon/serve"
	"github.com/brooddaemon/brood/netmon"
)

// The variables by which a test hands its key to the daemon, and says where the TLS configuration bears it.
const (
	certVar  = "TLS_CERT"
	keyVar   = "TLS_KEY"
	whereVar = "TLS_WHERE"
)

// secure is web over TLS.
var secure = scenario("secure", func() daemon.Config {
	cert, err := tls.X509KeyPair([]byte(os.Getenv(certVar)), []byte(os.Getenv(keyVar)))
	if err != nil {
		panic(err)
	}
	config := &tls.Config{}
	switch os.Getenv(whereVar) {
	case "GetCertificate":
		config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }
	case "GetConfigForClient":
		config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return &tls.Config{Certificates: []tls.Certificate{cert}}, nil
		}
	default:
		config.Certificates = []tls.Certificate{cert}
	}
	return everywhere(func(ctx context.Context, c *daemon.Child) error {
		h := pages(c, func(r *http.Request) context.Context { return r.Context() })
		return serve.HTTP(&http.Server{Handler: h, TLSConfig: config})(ctx, c)
	})
})

// A tlsSite is a daemon that speaks TLS.
type tlsSite struct {
	*site
	roots *x509.CertPool
}

func startTLS(t *testing.T, env ...string) *tlsSite {
	t.Helper()
	p := newPair(t, 1)
	return &tlsSite{start(t, secure, append(env, certVar+"="+p.cert, keyVar+"="+p.key, listen("tcp4"))...), p.roots()}
}

// A pair is a certificate for 127.0.0.1 and its key, in PEM.
type pair struct{ cert, key string }

func newPair(t testing.TB, serial int64) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "there"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	in := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return pair{in("CERTIFICATE", der), in("PRIVATE KEY", keyDER)}
}

// roots are those that a client trusts who knows the certificate.
func (p pair) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(p.cert))
	return pool
}

// visit connects over HTTP/1.1.
func (s *tlsSite) visit() *visit {
	s.t.Helper()
	return newVisit(s.t, tls.Client(s.dial("tcp4"), &tls.Config{RootCAs: s.roots, ServerName: "127.0.0.1"}))
}

// client returns a client that speaks HTTP/2 if it is let, and a function that closes its connections without a word.
func (s *tlsSite) client() (c *http.Client, hangUp func()) {
	var mu sync.Mutex
	var open []net.Conn
	tr := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: s.roots}, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err == nil {
				mu.Lock()
				open = append(open, conn)
				mu.Unlock()
			}
			return conn, err
		},
	}
	hangUp = func() {
		mu.Lock()
		defer mu.Unlock()
		for _, conn := range open {
			conn.Close()
		}
		open = nil
	}
	s.t.Cleanup(hangUp)
	return &http.Client{Transport: tr, Timeout: patience}, hangUp
}

// get asks for a page.
func (s *tlsSite) get(c *http.Client, path string) (string, error) {
	resp, err := c.Get("https://" + s.addr("tcp4") + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// Wherever the certificate stands, nothing is served in the clear.
func TestTLS(t *testing.T) {
	for _, where := range []string{"Certificates", "GetCertificate", "GetConfigForClient"} {
		for _, concurrency := range []string{"1", "4"} {
			t.Run(where+" "+concurrency, func(t *testing.T) {
				t.Parallel()
				s := startTLS(t, whereVar+"="+where, "BROOD_CONCURRENCY="+concurrency)
				clear := s.site.visit("tcp4")
				if body, resp := clear.get("/who"); resp.StatusCode != http.StatusBadRequest {
					t.Fatalf("served in the clear: %s, %q", resp.Status, body)
				}
				v := s.visit()
				pid := v.who()
				if concurrency != "1" && v.who() != pid {
					t.Error("the connection is not kept")
				}
				v.Close()

				// A client who leaves is noticed below TLS.
				v = s.visit()
				request(t, v.Conn, "POST", "/hold?id=one", "unread")
				e := s.event("begin", "one")
				v.Conn.(*tls.Conn).NetConn().Close()
				if got := s.lost(1)[0]; got.PID != e.PID || got.How != netmon.Closed || got.Text != "POST /hold" {
					t.Errorf("told %+v", got)
				}
				if e := s.event("end", "one"); e.Text != "client gone" {
					t.Errorf("the job ends: %s", e.Text)
				}
			})
		}
	}
}

// One job at a time is one, also for clients that would put many requests on one connection.
func TestTLSOneJob(t *testing.T) {
	t.Parallel()
	s := startTLS(t, "BROOD_PREFORK=2")
	c, _ := s.client()
	var all sync.WaitGroup
	defer all.Wait()
	pids := map[int]bool{}
	for i := range 2 {
		id := fmt.Sprint("job", i)
		all.Go(func() {
			if body, err := s.get(c, "/hold?gate=1&id="+id); err != nil || body != "bye\n" {
				t.Errorf("%s: %q, %v", id, body, err)
			}
		})
		pids[s.event("begin", id).PID] = true
	}
	if len(pids) != 2 {
		t.Error("one child runs two jobs")
	}
	s.open("job0")
	s.open("job1")
}

// B23: clients who would keep one connection busy for ever lose nothing, and hold up nobody.
func TestReloadTLS(t *testing.T) {
	t.Parallel()
	s := startTLS(t, "BROOD_PREFORK=1", "BROOD_CONCURRENCY=8", "BROOD_DRAIN_TIMEOUT=15s", "BROOD_LINGER_TIMEOUT=2s")
	c, _ := s.client()
	stop := make(chan struct{})
	var all sync.WaitGroup
	var served atomic.Int64
	for range 4 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := s.get(c, "/nap?for=3ms&word=x"); err != nil {
					t.Error(err)
					return
				}
				served.Add(1)
			}
		})
	}
	eventually(t, "requests", func() bool { return served.Load() > 20 || t.Failed() })
	for range 3 {
		old := s.serving()[0].PID
		asked := time.Now()
		s.reload()
		eventually(t, "the old child to leave", func() bool { return gone(old) })
		if late := time.Since(asked); late > 10*time.Second {
			t.Errorf("the old child leaves after %v", late)
		}
		n := served.Load()
		eventually(t, "requests", func() bool { return served.Load() > n+20 || t.Failed() })
	}
	close(stop)
	all.Wait()
	if b := s.board(); b.Killed+b.Died > 0 {
		t.Errorf("the scoreboard: %+v", b.Status)
	}
}

// A client who leaves in the middle of several requests is missed, although others of them have been answered.
func TestGoneTLS(t *testing.T) {
	t.Parallel()
	s := startTLS(t, "BROOD_PREFORK=1", "BROOD_CONCURRENCY=8")
	c, hangUp := s.client()
	if _, err := s.get(c, "/who"); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	defer all.Wait()
	for i := range 2 {
		id := fmt.Sprint("stream", i)
		// A POST is not sent again when the connection is lost.
		all.Go(func() {
			if resp, err := c.Post("https://"+s.addr("tcp4")+"/hold?id="+id, "", nil); err == nil {
				resp.Body.Close()
			}
		})
		s.event("begin", id)
	}
	if _, err := s.get(c, "/who"); err != nil {
		t.Fatal(err)
	}
	hangUp()
	if got := s.lost(1)[0]; got.PID != s.serving()[0].PID {
		t.Errorf("told %+v", got)
	}
	s.event("end", "stream0")
	s.event("end", "stream1")
}
