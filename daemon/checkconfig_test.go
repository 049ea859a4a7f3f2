package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// checked is what -check-config says of a file.
func checked(t *testing.T, text string) error {
	t.Helper()
	cfg := enough()
	if err := configured(t, &cfg, text, "-check-config"); err != nil {
		t.Fatal(err)
	}
	done, err := cfg.settings.answers(cfg)
	if !done {
		t.Error("the program would go on")
	}
	return err
}

// Certificates that cannot be used are told before a daemon finds them.
func TestCheckConfigCertificate(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	text := "listen 127.0.0.1:0,cert=" + cert + ",key=" + key + "\n"
	if err := checked(t, text); err == nil || !strings.Contains(err.Error(), cert+": no such file") {
		t.Errorf("a certificate that is not there: %v", err)
	}
	for _, path := range []string{cert, key} {
		if err := os.WriteFile(path, []byte("nothing"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := checked(t, text); err == nil || !strings.Contains(err.Error(), "certificate "+cert+" and key "+key+" cannot be used") {
		t.Errorf("one that is none: %v", err)
	}
}

// What is wrong with who asks, and not with the file, is no line's fault.
func TestCheckConfigBlamesNobody(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may start everything")
	}
	if err := checked(t, "prefork 4\nrequire_root true\n"); err == nil || !strings.HasPrefix(err.Error(), "jobd must be started by root") {
		t.Errorf("not started by root: %v", err)
	}
}
