package daemon

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"
)

// handshakeWait is how long a client may take for the handshake of TLS, so that one who says nothing does not keep a child to himself.
// A test makes it shorter.
var handshakeWait = 10 * time.Second

// shake makes the handshake, once.
func (conn *Conn) shake() error {
	if conn.shaken.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(conn.Context(), handshakeWait, fmt.Errorf("the client has not finished it within %v", handshakeWait))
	defer cancel()
	err := conn.secure.HandshakeContext(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("TLS handshake with %s: %w", conn.clientName(), err)
	}
	conn.shaken.Store(true)
	return nil
}

// TLS returns what has been agreed on with a client who speaks TLS with the connection itself; nil: there is none, or no handshake has
// been made yet, which the first Read or Write does.
func (conn *Conn) TLS() *tls.ConnectionState {
	if !conn.shaken.Load() {
		return nil
	}
	st := conn.secure.ConnectionState()
	return &st
}

// TLSConfig is Listener.TLSConfig of the listener that the connection came from.
func (conn *Conn) TLSConfig() *tls.Config { return conn.from.tls.Clone() }

// shut closes the connection; over TLS it says so there first.
func (conn *Conn) shut() error {
	if conn.secure != nil {
		return conn.secure.Close()
	}
	return conn.Conn.Close()
}
