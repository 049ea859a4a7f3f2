package daemon

import (
	"os"
	"path/filepath"
	"testing"
)

// What a child uses is what its cgroup says, if that says anything, and else its share of what it has mapped.
func TestMemory(t *testing.T) {
	dir := t.TempDir()
	pss, err := memory(dir)
	if err != nil || pss < 1<<20 || pss > 1<<32 {
		t.Errorf("this process uses %d bytes, %v", pss, err)
	}
	file := filepath.Join(dir, "memory.current")
	if err := os.WriteFile(file, []byte("12345678\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := memory(dir); err != nil || got != 12345678 {
		t.Errorf("its cgroup uses %d bytes, %v", got, err)
	}
	if err := os.WriteFile(file, []byte("max\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := memory(dir); err == nil {
		t.Errorf("nonsense is %d bytes", got)
	}
}
