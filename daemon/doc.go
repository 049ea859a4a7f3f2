// Package daemon runs a main loop in a pool of child processes.
//
// The invariant: one parent process, which runs no user code but hooks, owns the listeners, the pidfile, the logs and
// the decisions; every job runs in a child, and a child can be killed at any moment without harm to anything but its
// job. The parent never reads a byte that a client sent.
//
// Run is the same call in every process. Go cannot fork, so a child is the same program started again: what stands
// before Run in main happens in every process, and work for the parent alone belongs into hooks.
//
//	func main() {
//		cfg := daemon.Config{
//			Listen:             []string{":8080"},
//			MainLoop:           serve.Conns(work),
//			OnClientDisconnect: daemon.KillChild,
//			AutoReload:         reload.Self(),
//		}
//		if err := daemon.Run(context.Background(), cfg); err != nil {
//			log.Fatal(err)
//		}
//	}
package daemon
