package daemon

// An effect is what makes a changed setting of the configuration file hold.
type effect string

const (
	live     effect = "reload"           // a reload, which HUP asks for: in the children of the new generation, and then in the parent
	upgrades effect = "needs an upgrade" // the parent's program has to be replaced, in its place; children that are started after that know it
	restarts effect = "needs a restart"  // the daemon has to be stopped and started
)

// effects tells it of each setting, by its flag. A test sees that none is missing. What the parent looks at only when it begins needs
// an upgrade, unless Parent.now is asked in the place of Parent.cfg wherever it is looked at; what handover.check refuses to change, and what
// only means something at the start, needs a restart.
var effects = map[string]effect{
	configFlag:  restarts,
	"name":      restarts,
	"run-dir":   restarts,
	"pid-file":  restarts,
	"daemonize": restarts,
	"no-fork":   restarts,
	"serialize": restarts,
	"lock-file": restarts,

	"require-root":            upgrades,
	"listen":                  upgrades,
	"dir":                     upgrades,
	"user":                    upgrades,
	"group":                   upgrades,
	"umask":                   upgrades,
	"error-log":               upgrades,
	"access-log":              upgrades,
	"access-format":           upgrades,
	"log-format":              upgrades,
	"log-max-size":            upgrades,
	"log-backups":             upgrades,
	"log-max-age":             upgrades,
	"log-plain":               upgrades,
	"pool":                    upgrades,
	"auto-reload-when":        upgrades,
	"auto-reload-check-every": upgrades,

	"allow":                    live,
	"deny":                     live,
	"reverse-lookups":          live,
	"environ":                  live,
	"rlimits":                  live,
	"log-level":                live,
	"prefork":                  live,
	"max-children":             live,
	"min-spare":                live,
	"max-spare":                live,
	"idle-timeout":             live,
	"min-child-age":            live,
	"concurrency":              live,
	"idle-every":               live,
	"max-requests":             live,
	"max-age":                  live,
	"max-memory":               live,
	"hung-after":               live,
	"dequeue-max":              live,
	"dequeue-every":            live,
	"min-reload-interval":      live,
	"trusted-owner":            live,
	"soak":                     live,
	"upgrade-after-reload":     live,
	"max-draining-generations": live,
	"max-draining-children":    live,
	"half-close":               live,
	"client-timeout":           live,
	"start-timeout":            live,
	"job-timeout":              live,
	"drain-timeout":            live,
	"stop-timeout":             live,
	"kill-grace":               live,
	"linger-timeout":           live,
}

// effectOf is the effect of a setting. Of one that is not in the table nothing is known that would do less.
func effectOf(flagName string) effect {
	if e, ok := effects[flagName]; ok {
		return e
	}
	return restarts
}
