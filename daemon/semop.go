//go:build !386 && !mips && !mipsle && !ppc

package daemon

import "golang.org/x/sys/unix"

const sysSemop = unix.SYS_SEMTIMEDOP
