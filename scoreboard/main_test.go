package scoreboard

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// roleVar tells a re-executed test binary what to be. Shared memory, kill -9 and the order in which two processes see each
// other's writes cannot be had without a second process.
const roleVar = "SCOREBOARD_TEST_ROLE"

// boardFD is where a role finds the board.
const boardFD = 3

var roles = map[string]func(s *Slot){
	"write":  writeRole,
	"vandal": vandalRole,
	"jobs":   jobsRole,
	"rings":  ringsRole,
}

func TestMain(m *testing.M) {
	name := os.Getenv(roleVar)
	if name == "full" {
		fullRole(os.Args[1])
		os.Exit(0)
	}
	if role, ok := roles[name]; ok {
		slot, err := strconv.Atoi(os.Args[1])
		if err != nil {
			panic(err)
		}
		s, err := Attach(boardFD, slot)
		if err != nil {
			panic(err)
		}
		// However a test ends, its children do: their standard input comes to its end.
		go func() {
			io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		}()
		role(s)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A child is a running role.
type child struct {
	*exec.Cmd
	out *bufio.Reader
}

// roleCommand makes the command for a role. The race detector makes a process sleep for a second at its end, by default.
func roleCommand(role, arg string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", arg)
	cmd.Env = append(os.Environ(), roleVar+"="+role, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	return cmd
}

// spawn bears a child in the slot and starts a role in it, as a process that is killed when the test ends.
func spawn(t testing.TB, b *Board, slot int, role string) *child {
	t.Helper()
	must(t, b.Bear(slot, Serve, 1, "test", time.Now()))
	cmd := roleCommand(role, strconv.Itoa(slot))
	cmd.ExtraFiles = []*os.File{b.f}
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd, bufio.NewReader(out)}
	t.Cleanup(c.kill9)
	must(t, b.SetPID(slot, cmd.Process.Pid))
	must(t, b.SetPhase(slot, PhaseServing))
	return c
}

// kill9 returns when the process is gone. It may be called again.
func (c *child) kill9() {
	c.Process.Kill()
	c.Wait()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// longEnough is what a test of many rounds may take, and tooLong what it may take if it has not seen enough by then.
const (
	longEnough = 10 * time.Second
	tooLong    = 60 * time.Second
)

// rounds is the number of rounds that such a test wants.
func rounds(n int) int {
	if testing.Short() {
		return n / 10
	}
	return n
}

// another reports whether such a test makes another round: until it has made n of them and has seen enough. On a busy
// machine it makes fewer, as soon as it has seen enough.
func another(round, n int, begun time.Time, enough bool) bool {
	took := time.Since(begun)
	return round < rounds(n) && took < longEnough || !enough && took < tooLong
}

// until polls cond, for at most 10 s.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// create makes a board in a directory of the test's own.
func create(t testing.TB, slots int) *Board {
	t.Helper()
	b, err := Create(filepath.Join(t.TempDir(), "scoreboard"), Identity{Name: "test"}, slots)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Remove() })
	return b
}

// inMemory is create on a file system in memory, like /run, if there is one: the tests of who sees whose write first
// want writes that take no longer than they must.
func inMemory(t testing.TB, slots int) *Board {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "scoreboard")
	if err != nil {
		return create(t, slots)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b, err := Create(filepath.Join(dir, "scoreboard"), Identity{Name: "test"}, slots)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func attach(t testing.TB, b *Board, slot int) *Slot {
	t.Helper()
	s, err := Attach(b.FD(), slot)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Detach() })
	return s
}

func hintOf(t testing.TB, b *Board, slot int) Hint {
	t.Helper()
	h, err := b.Look(slot)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// only returns the one child of the board.
func only(t testing.TB, path string) Child {
	t.Helper()
	s, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Children) != 1 {
		t.Fatalf("%d children on the board, want 1", len(s.Children))
	}
	return s.Children[0]
}

// letters are what texts are made of: one letter, repeated to the end of the field.
var letters = func() (clients, texts [26]string) {
	for i := range clients {
		clients[i] = strings.Repeat(string(rune('a'+i)), clientLen)
		texts[i] = strings.Repeat(string(rune('a'+i)), textLen)
	}
	return
}

var clients, texts = letters()

// recordOf is the record of job n: every part of it tells n.
func recordOf(n uint64) Record {
	return Record{
		Serial: n, Started: time.Unix(0, int64(n)), Inode: 3 * n,
		Client: clients[n%26], Text: texts[n%26],
	}
}

// whole reports an error unless all parts of what was read tell the same n.
func whole(c Child) error {
	n := c.Job
	if c.Torn || n == 0 {
		if n != 0 || c.Client != "" || c.Text != "" || !c.Started.IsZero() {
			return fmt.Errorf("torn or empty, and yet job %d: %+v", n, c)
		}
		return nil
	}
	if c.Started.UnixNano() != int64(n) || c.Client != clients[n%26] || c.Text != texts[n%26] {
		return fmt.Errorf("a mix: job %d of %c began at %d, client %q, text %q", n, 'a'+rune(n%26), c.Started.UnixNano(), c.Client, c.Text)
	}
	return nil
}

// spin lets some n nanoseconds pass without giving the processor away. It touches no memory, which the race detector
// would make slow.
func spin(n uint64) {
	x := uint64(0)
	for i := range n {
		x = x*x + i
	}
	spun.Store(x)
}

// spun keeps the compiler from leaving the work out.
var spun atomic.Uint64

// writeRole updates its slot as fast as it can, with a moment of rest now and then in which a reader gets a look.
func writeRole(s *Slot) {
	for n := uint64(1); ; n++ {
		s.SetWork(Work{State: Working, Since: time.Unix(0, int64(n)), Running: 1, Done: n, Job: recordOf(n)})
		if n%4 == 0 {
			spin(n * 7919 % 20000)
		}
		if n%5 == 0 {
			s.SetWork(Work{State: Idle, Since: time.Unix(0, int64(n)), Done: n})
		}
	}
}

// vandalRole fills its whole slot, the parent's part too, with what hurts terminals and readers that trust.
func vandalRole(s *Slot) {
	mine := s.mem[offset(s.slot) : offset(s.slot)+SlotSize]
	for {
		for i := range mine {
			mine[i] = 0xff
		}
		for i := 0; i < len(mine); i += 8 {
			copy(mine[i:], "\x1b[2J\x9b\xff\n\r")
		}
	}
}

// fullRole asks for a board where there is no room, on a disk of its own.
func fullRole(dir string) {
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=256k"); err != nil {
		fmt.Println("cannot mount:", err)
		return
	}
	_, err := Create(filepath.Join(dir, "scoreboard"), Identity{}, MaxSlots)
	left, _ := os.ReadDir(dir)
	fmt.Println(err, "left:", len(left))
}
