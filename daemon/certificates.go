package daemon

import (
	"crypto/tls"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxPEM is how long a file with certificates or a key may be.
const maxPEM = 1 << 20

// collect adds to files, which are contents by path, those that listeners need and that are not there. The parent, which may be root,
// makes nothing of them; the children do.
func (p *Parent) collect(files *map[string][]byte, specs []listenSpec) error {
	for _, s := range specs {
		if s.Cert == "" {
			continue
		}
		for _, path := range []string{s.Cert, s.Key} {
			if _, there := (*files)[path]; there {
				continue
			}
			content, mode, err := readPEM(path)
			if err != nil {
				return fmt.Errorf("listen %q: %w", s, err)
			}
			if path == s.Key && mode&0o006 != 0 {
				p.warnOpenKey(path)
			}
			if *files == nil {
				*files = map[string][]byte{}
			}
			(*files)[path] = content
		}
	}
	return nil
}

// specs are the entries of the listeners, one for each.
func (p *Parent) specs() []listenSpec {
	var all []listenSpec
	for _, l := range p.listeners {
		all = append(all, l.spec)
	}
	return all
}

// warnOpenKey tells the log of a key that is no secret, once.
func (p *Parent) warnOpenKey(path string) {
	if _, told := p.openKeys.LoadOrStore(path, true); !told {
		p.log.Warn("everybody on this machine has access to the key of a listener: take it away with chmod o=", "key", path)
	}
}

// readPEM reads a file with certificates or a key.
func readPEM(path string) ([]byte, os.FileMode, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe would be waited for
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !st.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is no file", path)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	switch {
	case err != nil:
		return nil, 0, err
	case len(content) > maxPEM:
		return nil, 0, fmt.Errorf("%s is longer than %d bytes, which no certificate or key is", path, maxPEM)
	}
	return content, st.Mode(), nil
}

// certify makes a child's listener ready for TLS, with what the parent has read when this generation began.
func (l *childListener) certify(files map[string][]byte) error {
	if l.spec.Cert == "" {
		return nil
	}
	pair, err := l.spec.pair(files)
	if err != nil {
		return fmt.Errorf("listener %s, with TLS: %w", l.name, err)
	}
	l.tls = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	return nil
}

// pair makes the certificate of a listener of files, which are contents by path.
func (s listenSpec) pair(files map[string][]byte) (pair tls.Certificate, err error) {
	cert, readCert := files[s.Cert]
	key, readKey := files[s.Key]
	if !readCert || !readKey {
		return pair, fmt.Errorf("the parent has not read %s and %s for this generation: reload", s.Cert, s.Key)
	}
	if pair, err = tls.X509KeyPair(cert, key); err != nil {
		err = fmt.Errorf("certificate %s and key %s cannot be used: %w", s.Cert, s.Key, err)
	}
	return pair, err
}

// tryPairs reports a certificate or a key that no child could use. It is for processes that nothing else becomes of: a parent that serves
// leaves it to its children.
func (p *Parent) tryPairs(specs []listenSpec) error {
	var files map[string][]byte
	if err := p.collect(&files, specs); err != nil {
		return err
	}
	for _, s := range specs {
		if s.Cert == "" {
			continue
		}
		if _, err := s.pair(files); err != nil {
			return fmt.Errorf("listen %q: %w", s, err)
		}
	}
	return nil
}
