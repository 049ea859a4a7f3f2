package daemon

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSerializeConfig(t *testing.T) {
	for _, c := range []struct {
		set  func(*Config)
		want string // in the error; empty: none
	}{
		{func(cfg *Config) { cfg.Serialize = "mutex" }, `field Serialize is "mutex"`},
		{func(cfg *Config) { cfg.Serialize = SerializeReuseport }, `set Pool to "static"`},
		{func(cfg *Config) { cfg.Serialize, cfg.Pool = SerializeReuseport, Static }, ""},
		{func(cfg *Config) { cfg.LockFile = "x" }, "field LockFile is set"},
		{func(cfg *Config) { cfg.Serialize, cfg.PIDFile, cfg.LockFile = SerializeFlock, "/tmp/a", "/tmp/a" }, "name another file"},
		{func(cfg *Config) { cfg.Serialize, cfg.LockFile = SerializeFlock, "/tmp/a" }, ""},
		{func(cfg *Config) { cfg.Serialize = SerializeFlock }, ""},
	} {
		cfg := enough()
		c.set(&cfg)
		err := cfg.complete()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q, pool %q, file %q: %v, want %q", cfg.Serialize, cfg.Pool, cfg.LockFile, err, c.want)
		}
		if c.want == "" && cfg.Serialize == SerializeFlock && !filepath.IsAbs(cfg.LockFile) {
			t.Errorf("the file is %q", cfg.LockFile)
		}
	}
}

// What is locked is a file, and neither what a link leads to nor anything that could hang.
func TestLockFileRefused(t *testing.T) {
	dir := t.TempDir()
	link, fifo, target := filepath.Join(dir, "link"), filepath.Join(dir, "fifo"), filepath.Join(dir, "target")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, fifo, dir, filepath.Join(dir, "none", "lock")} {
		if f, err := openLockFile(path, false); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, %v", path, f, err)
		}
	}
	if _, err := os.Lstat(target); err == nil {
		t.Error("a file was made where the link leads")
	}
}

func TestTurnsCannotChange(t *testing.T) {
	for _, c := range []struct {
		h    handedTurns
		cfg  Config
		want string
	}{
		{handedTurns{}, Config{Serialize: SerializeExclusive}, ""},
		{handedTurns{}, Config{Serialize: SerializePipe}, `field Serialize is "pipe", and "exclusive" in the daemon that runs`},
		{handedTurns{Mode: SerializeReuseport, Places: 3}, Config{Serialize: SerializeReuseport, Prefork: 4}, "field Prefork is 4, and 3"},
		{handedTurns{Mode: SerializeReuseport, Places: 4}, Config{Serialize: SerializeReuseport, Prefork: 4}, ""},
	} {
		err := c.h.check(&c.cfg)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c.h, err, c.want)
		}
	}
}

// fourLocks are one lock in four hands.
func fourLocks(t *testing.T) map[string][]*turnLock {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	p := &Parent{cfg: Config{RunDir: t.TempDir()}}
	file, err := openLockFile(filepath.Join(p.cfg.RunDir, "lock"), true)
	must(err)
	sem, err := p.openSemaphore(handedTurns{})
	must(err)
	pipe, err := p.openToken(handedTurns{})
	must(err)
	all := map[string][]*turnLock{}
	for mode, turns := range map[Serialize]turns{SerializeFlock: file, SerializeSemaphore: sem, SerializePipe: pipe} {
		t.Cleanup(turns.close)
		for range 4 {
			fds, number, err := turns.forChild()
			must(err)
			tt := turnTaker{mode: mode, number: number}
			if len(fds) == 2 { // as two descriptors that follow each other
				tt.fd = 900 + 2*len(all[string(mode)])
				for i, fd := range fds {
					must(unix.Dup3(fd, tt.fd+i, unix.O_CLOEXEC))
					unix.Close(fd)
					t.Cleanup(func() { unix.Close(tt.fd + i) })
				}
			} else if len(fds) == 1 {
				tt.fd = fds[0]
			}
			l, err := tt.lock(t.Errorf)
			must(err)
			all[string(mode)] = append(all[string(mode)], l)
		}
	}
	return all
}

// Whoever is interrupted does not have the lock, nobody has it beside another one, and nobody waits for it in vain.
func TestTurnLock(t *testing.T) {
	for mode, locks := range fourLocks(t) {
		t.Run(mode, func(t *testing.T) {
			var inside, turns, interrupted atomic.Int32
			stop := make(chan struct{})
			var wg sync.WaitGroup
			for _, l := range locks {
				wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
				if err == nil {
					err = l.interruptible(wake)
				}
				if err != nil {
					t.Fatal(err)
				}
				wg.Go(func() { // interrupts
					for {
						select {
						case <-stop:
							unix.Write(wake, once)
							return
						case <-time.After(time.Duration(rand.IntN(300)) * time.Microsecond):
							unix.Write(wake, once)
						}
					}
				})
				wg.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						ok, err := l.take()
						if err != nil {
							t.Error(err)
							return
						}
						if !ok {
							interrupted.Add(1)
							var b [8]byte
							unix.Read(wake, b[:])
							continue
						}
						if n := inside.Add(1); n != 1 {
							t.Errorf("%d have the lock", n)
						}
						time.Sleep(time.Duration(rand.IntN(200)) * time.Microsecond)
						inside.Add(-1)
						turns.Add(1)
						l.lock.give()
					}
				})
			}
			for end := time.Now().Add(20 * time.Second); turns.Load() < 300 || interrupted.Load() < 50; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%d turns, %d interrupted", turns.Load(), interrupted.Load())
				}
			}
			close(stop)
			wg.Wait()
		})
	}
}
