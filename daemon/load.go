package daemon

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
)

// A load tells whether the machine has processors that are idle.
type load struct {
	processors int // of the machine, or if that is not to be known, those that this process may use

	mu   sync.Mutex
	file *os.File // /proc/loadavg; nil: it cannot be had
}

func newLoad() *load {
	l := &load{processors: runtime.NumCPU()}
	l.file, _ = os.Open("/proc/loadavg")
	if text, err := os.ReadFile("/sys/devices/system/cpu/online"); err == nil {
		l.processors = max(l.processors, listed(strings.TrimSpace(string(text))))
	}
	return l
}

// listed is how many numbers are in a list like 0-3,6 (cpuset(7), "List format"); 0: it is none.
func listed(text string) (n int) {
	for part := range strings.SplitSeq(text, ",") {
		first, last, ranged := strings.Cut(part, "-")
		a, err := strconv.Atoi(first)
		b := a
		if ranged && err == nil {
			b, err = strconv.Atoi(last)
		}
		if err != nil || b < a {
			return 0
		}
		n += b - a + 1
	}
	return n
}

// idle reports whether fewer threads run, or could run, than there are processors; also if nobody knows.
func (l *load) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return true
	}
	var buf [128]byte
	n, _ := l.file.ReadAt(buf[:], 0)
	running, ok := runnable(buf[:n])
	return !ok || running < l.processors
}

// runnable is how many threads run or could run: the fourth field of /proc/loadavg has it before the slash (proc_loadavg(5)).
func runnable(text []byte) (int, bool) {
	fields := bytes.Fields(text)
	if len(fields) < 4 {
		return 0, false
	}
	before, _, _ := bytes.Cut(fields[3], []byte("/"))
	n, err := strconv.Atoi(string(before))
	return n, err == nil
}
