package daemon

import (
	"os"
	"time"
)

// A test that sets this variable has daemons whose jobs hardly wait for the verdict about their client: it comes when the
// next job runs.
func init() {
	if d, err := time.ParseDuration(os.Getenv("VERDICT_WAIT")); err == nil {
		verdictWait = d
	}
}
