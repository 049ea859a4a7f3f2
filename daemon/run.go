package daemon

import (
	"context"

	"github.com/brooddaemon/brood/internal/inherit"
)

// Run runs the daemon. It is the same call in every process of it: the launcher, the parent and each child.
//
// In the parent it returns nil after an orderly stop, or the error that kept the daemon from starting; nothing of the
// daemon is left then, no process, pidfile or socket path. With Config.Daemonize it returns in the launching process as
// soon as the daemon serves, or with the error that kept it from that. In a child it does not return: the process exits
// when MainLoop has returned and the last job has ended.
//
// The end of ctx stops the parent as SIGTERM does. Call Run once, from main, before anything that starts other
// programs: it takes the marks by which the daemon's processes know their roles out of the environment.
func Run(ctx context.Context, cfg Config) error {
	claim, told, environ, err := inherit.Take()
	if err != nil {
		return err
	}
	if claim.Role == inherit.Child {
		runChild(ctx, cfg, claim) // exits
	}
	if claim.Role == inherit.Trial {
		runTrial(cfg, claim) // exits
	}
	if err := cfg.begin(); err != nil {
		if claim.Role == inherit.Launcher {
			cfg.settings.end(err)
		}
		return launched(claim, err)
	}
	if claim.Role == inherit.Launcher {
		if done, err := cfg.settings.answers(cfg); done {
			return err
		}
	}
	asked := cfg.MaxChildren != 0
	if err := cfg.settings.blamed(cfg.complete()); err != nil {
		return launched(claim, err)
	}
	if err := cfg.allowed(); err != nil {
		return launched(claim, err)
	}
	if cfg.Daemonize && claim.Role == inherit.Launcher {
		if cfg.BeforeDaemonize != nil {
			if err := guard("BeforeDaemonize", cfg.BeforeDaemonize); err != nil {
				return err
			}
		}
		return launch(cfg, environ)
	}
	return runParent(ctx, cfg, asked, claim, told, environ)
}
