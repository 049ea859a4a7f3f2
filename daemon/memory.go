package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/brooddaemon/brood/internal/control"
)

const (
	// weighEvery is how often a child looks at its memory at most: it costs the kernel a walk through the page tables.
	weighEvery = time.Second
	// weighBusy is how often it looks while jobs run on.
	weighBusy = 10 * time.Second
)

// weigh asks the parent to replace this child if it uses more memory than it may.
func (c *Child) weigh() {
	if c.cfg.MaxMemory <= 0 {
		return
	}
	c.mu.Lock()
	now := monotonic()
	due := !c.heavy && (c.weighed == 0 || now-c.weighed >= weighEvery)
	if due {
		c.weighed = now
	}
	c.mu.Unlock()
	if !due {
		return
	}
	used, err := memory(c.cgroup)
	if err != nil {
		c.complain("cannot tell how much memory is used: %v", err)
		return
	}
	if used <= c.cfg.MaxMemory {
		return
	}
	c.mu.Lock()
	c.heavy = true
	c.mu.Unlock()
	c.tell(control.Message{Kind: control.Spent, Text: fmt.Sprintf("uses %s of memory, more than %s", megabytes(used), megabytes(c.cfg.MaxMemory))})
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/(1<<20)) }

// weighOn looks again and again as long as jobs run. c.mu is held.
func (c *Child) weighOn() {
	if c.cfg.MaxMemory <= 0 || c.weighing {
		return
	}
	c.weighing = true
	time.AfterFunc(weighBusy, func() {
		c.weigh()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.weighing = false
		if c.jobs.n > 0 && !c.heavy {
			c.weighOn()
		}
	})
}

// memory is what this process uses: all that its cgroup does, if it has one of its own with a memory controller, else its
// proportional share of what it has mapped (proc(5), /proc/pid/smaps).
func memory(cgroup string) (int64, error) {
	if cgroup != "" {
		b, err := os.ReadFile(filepath.Join(cgroup, "memory.current"))
		if err == nil {
			return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		}
		if !errors.Is(err, os.ErrNotExist) { // without the controller there is no such file
			return 0, err
		}
	}
	b, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte("Pss:")); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(string(rest)), "kB")), 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("/proc/self/smaps_rollup has no Pss")
}
