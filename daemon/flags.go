package daemon

import (
	"flag"
	"time"
)

// Flags defines the command-line flags that every daemon of this toolkit has: each field of cfg that can be written as
// text, by its name in kebab case (StartTimeout is -start-timeout 10s); lists are given by repeating the flag.
//
// What cfg holds when Flags is called are the defaults. The configuration file that -config, BROOD_CONFIG or cfg.ConfigFile names
// goes before them: lines of KEY VALUE, the key in snake case (start_timeout 10s), which can set the flags that the program itself
// has defined on fs before, too. An environment variable BROOD_ and the name in capitals (BROOD_START_TIMEOUT) goes before the file,
// the command line before all. A list is that of the first of them which has it. Call it before fs.Parse, in main, in every process.
//
// What is wrong with the file or with an environment variable is told in the way of fs's ErrorHandling. With flag.ContinueOnError it
// is printed and what was there before stays; if it is the file, Run returns the error. Keys that nobody knows are told by Run, because
// a flag of that name might have been defined after the call. With -check-config and -show-config, which Flags defines as well,
// Run does nothing but to print whether the configuration is in order, or what it is.
//
// A reload reads the file anew. In the children of a generation it is what it was when the generation began.
func (cfg *Config) Flags(fs *flag.FlagSet) {
	s := &settings{fs: fs, pristine: *cfg}
	s.pristine.settings = nil
	s.define(cfg)
	fs.BoolVar(&s.check, checkFlag, false, "say whether the configuration is in order, and exit")
	fs.BoolVar(&s.show, showFlag, false, "print every setting, as a configuration file, with where it comes from, and exit")
	cfg.settings = s
	s.read(cfg)
	s.readEnvironment()
}

// define defines the flags of a Config.
func (s *settings) define(cfg *Config) {
	s.text(&cfg.ConfigFile, configFlag, "configuration `file`: lines of a flag's name, in snake case, and its value")
	s.text(&cfg.Name, "name", "`name` of the daemon, in its run directory and for the brood command")
	s.list(&cfg.Listen, "listen", "`address` to listen on: host:port, :port, unix:/path or fd:NAME; more of them and options (name=, backlog=, mode=, owner=, cert=, key=, proxy) behind commas; repeat for more")
	s.text((*string)(&cfg.Serialize), "serialize", "how children take turns in accepting: exclusive (the default), none, flock, semaphore, pipe or reuseport")
	s.text(&cfg.LockFile, "lock-file", "`file` that children lock with -serialize flock; default lock in the run directory")
	s.list(&cfg.Allow, "allow", "who may connect, and nobody else: `rule` such as 10.0.0.0/8, ::1, /REGEXP/, host.example.org, .example.org, uid:www, gid:www, unix or all; repeat for more")
	s.list(&cfg.Deny, "deny", "who may not connect: `rule` as of -allow; repeat for more")
	s.flag(&cfg.ReverseLookups, "reverse-lookups", "find out the names of clients' hosts, for the access log")
	s.flag(&cfg.RequireRoot, "require-root", "refuse to start unless root")
	s.flag(&cfg.Daemonize, "daemonize", "go into the background when every child is ready")
	s.flag(&cfg.NoFork, "no-fork", "run the main loop in this very process, for a debugger: no children, no reload")
	s.text(&cfg.Dir, "dir", "`directory` to run in")
	s.text(&cfg.User, "user", "`user` that the children are, by name or number; only root can set it")
	s.text(&cfg.Group, "group", "`group` that the children are in, by name or number")
	s.value((*octal)(&cfg.Umask), "umask", "file mode creation `mask`, octal; -1 keeps the one that is set")
	s.list(&cfg.Environ, "environ", "environment `variable` that children get: NAME, NAME=value or the beginning of names and *; repeat for more")
	s.list(&cfg.Rlimits, "rlimits", "`limit` for each child: NAME=VALUE, such as nofile=4096; repeat for more")
	s.text(&cfg.RunDir, "run-dir", "`directory` of pidfile, scoreboard and control socket; default /run/NAME as root")
	s.text(&cfg.PIDFile, "pid-file", "`file` to lock and to write the parent's pid to")
	s.text(&cfg.ErrorLog, "error-log", "`file` for messages and the children's output; - is standard error")
	s.text(&cfg.AccessLog, "access-log", "`file` for access lines; - is standard output")
	s.text((*string)(&cfg.AccessFormat), "access-format", "how access lines look: combined (the default), common, json, or own: those of the program alone")
	s.text((*string)(&cfg.LogFormat), "log-format", "how messages and the children's output look: text (the default) or json")
	s.text(&cfg.LogLevel, "log-level", "`level` from which on the log gets what the parent says: debug, info (the default), warn or error")
	s.number(&cfg.LogRotate.MaxSizeMB, "log-max-size", "size in `MB` at which a log file is rotated; 0: 100; negative: never")
	s.number(&cfg.LogRotate.Backups, "log-backups", "`number` of rotated log files to keep; 0: 10; negative: all")
	s.number(&cfg.LogRotate.MaxAgeDays, "log-max-age", "`days` to keep a rotated log file; 0: 30; negative: for ever")
	s.flag(&cfg.LogRotate.Plain, "log-plain", "do not compress rotated log files")
	s.text((*string)(&cfg.Pool), "pool", "how the number of children follows the work: dynamic (the default), static or ondemand")
	s.numberOr(&cfg.Prefork, defaultPrefork, "prefork", "`number` of children at the start, and at least")
	s.numberOr(&cfg.MaxChildren, defaultMaxChildren, "max-children", "`number` of children at most")
	s.numberOr(&cfg.MinSpare, defaultMinSpare, "min-spare", "`number` of idle children below which the pool grows")
	s.number(&cfg.MaxSpare, "max-spare", "`number` of idle children above which the pool shrinks; 0: a quarter of the children, at least 3")
	s.timeOr(&cfg.IdleTimeout, defaultIdleTimeout, "idle-timeout", "`time` after which a child that is not needed is sent away")
	s.timeOr(&cfg.MinChildAge, defaultMinChildAge, "min-child-age", "`time` that a child serves at least before it is sent away for being idle")
	s.numberOr(&cfg.Concurrency, 1, "concurrency", "`number` of jobs a child runs at once")
	s.timeOr(&cfg.IdleEvery, time.Second, "idle-every", "`time` between calls of the parent's idle hook")
	s.number(&cfg.MaxRequests, "max-requests", "`number` of jobs after which a child is replaced; 0 is no limit")
	s.time(&cfg.MaxAge, "max-age", "`time` after which a child is replaced; 0 is no limit")
	s.value((*amount)(&cfg.MaxMemory), "max-memory", "memory in `bytes` (K, M, G) above which a child is replaced; 0 is no limit")
	s.time(&cfg.HungAfter, "hung-after", "`time` without a sign of life after which a child without work is killed; 0: none is asked for")
	s.number(&cfg.Dequeue.Max, "dequeue-max", "`number` of children with a queue of their own")
	s.timeOr(&cfg.Dequeue.Every, defaultDequeueEvery, "dequeue-every", "`time` between starts of children with a queue of their own")
	s.text((*string)(&cfg.AutoReloadWhen), "auto-reload-when", "when to reload by oneself as files change: not-root (the default), always or never")
	s.time(&cfg.AutoReloadCheckEvery, "auto-reload-check-every", "`time` between looks at files of whose changes the kernel does not tell; 0: 5s; negative: none")
	s.time(&cfg.MinReloadInterval, "min-reload-interval", "`time` from the beginning of a reload to that of the next at least; 0: none")
	s.text(&cfg.TrustedOwner, "trusted-owner", "`user` who may own the program beside root, when root runs it")
	s.timeOr(&cfg.Soak, defaultSoak, "soak", "`time` that a new generation is on probation, from when its first child is ready")
	s.flag(&cfg.UpgradeAfterReload, "upgrade-after-reload", "replace the parent's program, too, after a reload that has succeeded")
	s.numberOr(&cfg.MaxDrainingGenerations, defaultMaxDrainingGenerations, "max-draining-generations", "`number` of old generations that may finish their jobs side by side")
	s.number(&cfg.MaxDrainingChildren, "max-draining-children", "`number` of children of old generations that may finish their jobs; 0: four times the children, but no more than 64 over them")
	s.text((*string)(&cfg.HalfClose), "half-close", "what a client's FIN means: gone (the default), confirm (the program is asked, or the kernel) or ignore")
	s.timeOr(&cfg.ClientTimeout, defaultClientTimeout, "client-timeout", "`time` without a sign of life after which a client's host is given up; negative: none")
	s.timeOr(&cfg.StartTimeout, defaultStartTimeout, "start-timeout", "`time` a child may take until it is ready")
	s.time(&cfg.JobTimeout, "job-timeout", "`time` a job may run; 0 is no limit")
	s.timeOr(&cfg.DrainTimeout, defaultDrainTimeout, "drain-timeout", "`time` an old child may go on with its jobs after a reload")
	s.timeOr(&cfg.StopTimeout, defaultStopTimeout, "stop-timeout", "`time` jobs may go on when the daemon stops")
	s.timeOr(&cfg.KillGrace, defaultKillGrace, "kill-grace", "`time` a cancelled job may take before its child is killed")
	s.timeOr(&cfg.LingerTimeout, defaultLingerTimeout, "linger-timeout", "`time` a draining child keeps idle HTTP connections")
}
