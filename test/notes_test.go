package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// notesProgram builds examples/web, a module of its own. Its database is thousands of files that were made from C, so it is
// built when a test wants it, and without the race detector.
var notesProgram = sync.OnceValues(func() (string, error) {
	path := filepath.Join(root, "notes", "web")
	cmd := exec.Command("go", "build", "-o", path, ".")
	cmd.Dir = "../examples/web"
	if b, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%v: %w\n%s", cmd.Args, err, b)
	}
	return path, nil
})

// A notes is an examples/web that runs, and a client of it.
type notes struct {
	*server
	http.Client
	url string
}

// openNotes starts one with a new database.
func openNotes(t *testing.T, flags ...string) *notes {
	t.Helper()
	leaveToPlain(t)
	program, err := notesProgram()
	if err != nil {
		t.Fatal(err)
	}
	s := openSite(t)
	n := &notes{server: mustServe(t, s, program, append([]string{"-db", filepath.Join(s.dir, "notes.db"), "-prefork", "4"}, flags...)...)}
	n.url, n.Timeout = "http://"+n.addr, requestTime
	t.Cleanup(n.CloseIdleConnections) // or its children linger
	return n
}

// ask sends a request and returns status and body of the answer.
func (n *notes) ask(method, path, body string) (int, string, error) {
	req, err := http.NewRequest(method, n.url+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	resp, err := n.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// Each pattern finds its handler, and what has none is told so.
func TestNotesRoutes(t *testing.T) {
	t.Parallel()
	n := openNotes(t)
	for _, c := range []struct {
		ask, path, body string
		code            int
		want            string // a regular expression
	}{
		{"GET", "/", "", 200, `^pid=\d+ slot=\d generation=1\n$`},
		{"POST", "/notes", "remember\nthe milk", 201, `^/notes/1\n$`},
		{"POST", "/notes", "the' --", 201, `^/notes/2\n$`},
		{"GET", "/notes/1", "", 200, `^remember\nthe milk$`},
		{"GET", "/notes/1/words", "", 200, `^3\n$`},
		{"GET", "/notes", "", 200, `^/notes/1 remember\n/notes/2 the' --\n$`},
		{"GET", "/find/the", "", 200, `^/notes/1 remember\n/notes/2 the' --\n$`},
		{"GET", "/find/the/milk", "", 200, `^/notes/1 remember\n$`},
		{"GET", "/find/nothing", "", 200, `^$`},
		{"DELETE", "/notes/2", "", 204, `^$`},
		{"DELETE", "/notes/2", "", 404, ""},
		{"GET", "/notes/2", "", 404, ""},
		{"GET", "/notes/one", "", 404, ""},
		{"GET", "/notes/1/", "", 404, ""},
		{"GET", "/elsewhere", "", 404, ""},
		{"PUT", "/notes/1", "", 405, ""},
		{"POST", "/notes", strings.Repeat("x", 64<<10+1), 413, ""},
	} {
		code, text, err := n.ask(c.ask, c.path, c.body)
		if err != nil || code != c.code || !regexp.MustCompile(c.want).MatchString(text) {
			t.Errorf("%s %s: %d, %q, %v; want %d and %s", c.ask, c.path, code, text, err, c.code, c.want)
		}
	}
}

// Each child opens the database once, also the first ones, who all find that there is none, and closes it in the end. One that
// does not get it open gets no client.
func TestNotesHandles(t *testing.T) {
	t.Parallel()
	n := openNotes(t)
	n.Transport = &http.Transport{DisableKeepAlives: true}
	lock, err := os.OpenFile(filepath.Join(n.site.dir, "notes.db.lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := kill(n.pid, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	pid, err := n.pick("generation=2", "state=starting", "pid>=1")
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if code, text, err := n.ask("GET", "/", ""); err != nil || code != 200 || !strings.Contains(text, "generation=1") {
			t.Errorf("while the new child waits for the database: %d, %q, %v", code, text, err)
		}
	}
	if again, err := n.pick("generation=2", "state=starting", "pid>=1"); err != nil || again != pid {
		t.Errorf("child %d has not waited for the database: %d, %v", pid, again, err)
	}
	lock.Close()
	if _, err := n.await("generation=2", "children=4", "idle=4", "rolling=0"); err != nil {
		t.Fatal(err)
	}
	if err := kill(n.pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := eventually(patience, func() error {
		if !n.gone() {
			return fmt.Errorf("process %d does not stop", n.pid)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(n.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"the database is open", "the database is closed"} {
		times := map[string]int{} // of each child
		for _, m := range regexp.MustCompile(`msg="`+what+`".* pid=(\d+)`).FindAllSubmatch(b, -1) {
			times[string(m[1])]++
		}
		if len(times) != 8 {
			t.Errorf("%q say %d children, want 8", what, len(times))
		}
		for pid, k := range times {
			if k != 1 {
				t.Errorf("%q says child %s %d times", what, pid, k)
			}
		}
	}
}

// What was answered is in the database, whatever happens: several write, in all children, who are reloaded and killed.
func TestNotesLast(t *testing.T) {
	t.Parallel()
	n := openNotes(t)
	const writers = 6
	written := [writers]map[string]string{}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var failed [writers]int
	var all atomic.Int64
	for w := range writers {
		written[w] = map[string]string{}
		c := &notes{server: n.server, url: n.url}
		c.Timeout = requestTime
		c.Transport = &http.Transport{DisableKeepAlives: w%2 == 0}
		wg.Go(func() {
			defer c.CloseIdleConnections()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				text := fmt.Sprintf("writer %d says %d", w, i)
				switch code, path, err := c.ask("POST", "/notes", text); {
				case err != nil:
					failed[w]++ // who it was asked of was killed
				case code != http.StatusCreated:
					t.Errorf("%d: %s", code, path)
				default:
					all.Add(1)
					written[w][strings.TrimSuffix(path, "\n")] = text
				}
			}
		})
	}
	kills := scaled(6, 30)
	for i := range kills {
		before := all.Load()
		if err := eventually(patience, func() error {
			if all.Load() < before+30 {
				return fmt.Errorf("since the last kill %d notes were written, want 30", all.Load()-before)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			if err := kill(n.pid, syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
		}
		pid, err := n.pick("state=working")
		if err != nil {
			t.Fatal(err)
		}
		if err := kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
	for w, paths := range written {
		for path, text := range paths {
			if code, got, err := n.ask("GET", path, ""); err != nil || code != 200 || got != text {
				t.Errorf("%s of writer %d: %d, %q, %v", path, w, code, got, err)
			}
		}
		if failed[w] > 2*kills {
			t.Errorf("writer %d was not answered %d times, and %d children were killed", w, failed[w], kills)
		}
	}
	t.Logf("%d notes, %d kills, not answered %v", all.Load(), kills, failed)
}

// With a certificate it speaks TLS, and HTTP/2. One that does not fit its key changes nothing.
func TestNotesTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pool := x509.NewCertPool()
	pool.AddCert(certify(t, cert, key))
	n := openNotes(t, "-listen", fmt.Sprintf("127.0.0.1:0,cert=%s,key=%s", cert, key))
	n.url = "https://" + n.addr
	n.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	resp, err := n.Get(n.url + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.ProtoMajor != 2 || resp.StatusCode != 200 {
		t.Errorf("%s %s, want HTTP/2.0 and 200", resp.Proto, resp.Status)
	}
	certify(t, cert, filepath.Join(dir, "other.pem"))
	out, err := n.site.command("brood", "reload", n.run).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "private key does not match public key") {
		t.Errorf("brood reload: %v\n%s", err, out)
	}
	n.CloseIdleConnections()
	if code, text, err := n.ask("GET", "/", ""); err != nil || code != 200 || !strings.Contains(text, "generation=1") {
		t.Errorf("after a reload that failed: %d, %q, %v", code, text, err)
	}
}

// certify makes a certificate for 127.0.0.1, and its key.
func certify(t *testing.T, cert, key string) *x509.Certificate {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	for path, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
