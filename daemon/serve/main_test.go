package serve_test

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// mainVar names the example that a process of the test binary is the program of. Children get every BROOD_*.
const mainVar = "BROOD_SERVE_EXAMPLE"

// The mains of the examples.
var mains = map[string]func(){"conns": connsMain, "http": httpMain}

// TestMain lets the test binary be the programs of the examples.
func TestMain(m *testing.M) {
	if run := mains[os.Getenv(mainVar)]; run != nil {
		run()
		return
	}
	os.Exit(m.Run())
}

// converse starts a program with a Unix socket in the place of its address, sends it a request, and returns all that it answers.
func converse(name, request string) (string, error) {
	dir, err := os.MkdirTemp("", "serve")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "socket")
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), mainVar+"="+name, "BROOD_LISTEN=unix:"+socket, "BROOD_RUN_DIR="+filepath.Join(dir, "run"),
		"BROOD_PREFORK=1", "BROOD_AUTO_RELOAD_WHEN=never", "BROOD_ERROR_LOG="+filepath.Join(dir, "log"))
	if err := cmd.Start(); err != nil {
		return "", err
	}
	defer func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
	}()
	var conn net.Conn
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if conn, err = net.Dial("unix", socket); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return "", err
		}
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	return string(answer), err
}
