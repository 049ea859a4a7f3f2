package daemon

import (
	"context"
	"log/slog"
	"time"

	"github.com/brooddaemon/brood/internal/logs"
	"github.com/brooddaemon/brood/reload"
)

// LogRotate says when a log file is rotated and how much is kept; the zero value keeps ten compressed files of 100 MB
// for 30 days.
type LogRotate = logs.Rotate

// A Config says what the daemon does. Only MainLoop is required. Run takes a copy: later changes have no effect.
//
// Hooks run in the process and on the goroutine that their comment names. Those of the parent that run on "the hooks'
// goroutine" (and OnClientDisconnect with them) wait for each other; the daemon does not wait for them. A hook that
// fails, panics or hangs is logged with its name and does not take the parent down once it has started.
type Config struct {
	// Name names the daemon in its logs, in its run directory and for the brood command. Default: the program's base name.
	Name string

	// ConfigFile is the file whose lines Flags reads, one KEY VALUE in each, the key being the name of a flag in snake case. They go
	// before what the Config holds then, the environment before them, the command line before all. Default: none.
	ConfigFile string

	// MainLoop is a child's work. Called once in each child, on a goroutine of its own, when the child is set up; when it
	// returns, jobs that still run are waited for and the child exits. ctx ends when the child should take no more work;
	// context.Cause says why. The contexts of running jobs live on until their client is gone.
	MainLoop func(ctx context.Context, c *Child) error

	// Listen says where to listen: entries of addresses and options, separated by commas, as in
	//
	//	127.0.0.1:80,[::1]:80,name=web,backlog=512
	//	/run/api.sock,mode=0660,owner=www-data:www-data
	//	0.0.0.0:8443,cert=/etc/api.pem,key=/etc/api.key
	//	fd:web,proxy
	//
	// An address is one of
	//
	//	:80, :http        all addresses of this host, IPv4 and IPv6, as is [::]:80; a service is one of /etc/services
	//	0.0.0.0:80        all of IPv4
	//	127.0.0.1:80, [fe80::1%eth0]:80
	//	localhost:80      all addresses that the name has, as far as they are this host's
	//	127.0.0.1:0       a free port, which the log and the scoreboard then name; each address has one of its own
	//	/run/x, unix:x    a Unix socket; its path goes with the daemon, and one that a dead daemon has left is taken over
	//	fd:NAME, fd:3     what the service manager has bound, by its name (FileDescriptorName=) or number; all of that name
	//
	// Options are for all addresses of the entry:
	//
	//	tcp4, tcp6        this version of IP alone, where :80 or a name would be both
	//	name=NAME         what Listener.Name, the log and the scoreboard call it; no other entry has this name
	//	backlog=N         how many clients may wait until somebody accepts; 0, the default: what the system allows
	//	mode=0660         of a Unix socket's path; that is the default
	//	owner=USER:GROUP  of a Unix socket's path, by name or number; USER alone and :GROUP will do. Only root can give it to others.
	//	                  Default: this user and the children's group
	//	cert=FILE         its clients speak TLS, 1.2 or later; with key=FILE, both in PEM. The parent reads them when a generation of
	//	key=FILE          children begins: a reload takes what is there then
	//	proxy=v1          its clients come through a proxy that tells who they are, in this version of the PROXY protocol; v2, or any
	//	                  (which proxy alone is, too). Who does not say it within five seconds is not served
	//
	// A comma or a backslash that belongs to a path or a name has a backslash before it. Paths are relative to where the daemon was
	// started. What a service manager has bound keeps its path, mode and owner. Default: none.
	Listen []string

	// Serialize says how children that have nothing to do take turns in waiting for connections: SerializeExclusive,
	// SerializeNone, SerializeFlock, SerializeSemaphore, SerializePipe, or SerializeReuseport, which needs the Pool Static.
	// The modes with a lock let one of them wait at a time; if that one is stopped (SIGSTOP) the others
	// wait for it. An upgrade cannot change it. Default SerializeExclusive.
	Serialize Serialize

	// LockFile is the file that children lock with SerializeFlock; it is made, with mode 0600, if it is not there, and stays.
	// Default: "lock" in RunDir, which goes with the daemon.
	LockFile string

	// Allow and Deny say who may connect: a prefix ("10.0.0.0/8"), an address ("::1"), "/REGEXP/" for the text of an address as
	// a whole, the name of a host ("host.example.org") or what names end in (".example.org"); on Unix sockets "uid:www",
	// "gid:www" or "unix", for everybody there; "all" for everybody. A client that a rule of Deny is about is refused; if
	// there are rules of Allow, one that none of them is about is refused, too, also on a Unix socket of which they do not speak;
	// else he may connect. Who is refused is reset before anything is read from him: there is no job, and OnClientDisconnect is
	// not called; the scoreboard counts him, and the log names some of many. Where the PROXY protocol is spoken the client is the one
	// whom the proxy names, and no rule is about the proxy itself, unless it comes for nobody else.
	//
	// A host's name counts only if it leads back to the client's address. The child that has accepted him finds that out
	// within 2 s, beside the job that it begins then, or not; if it cannot, Deny refuses him and Allow does not let him in.
	// Default: everybody may connect.
	Allow []string
	Deny  []string

	// ReverseLookups finds out the name of each TCP client's host, while his job runs, for the access log, which has it in the
	// place of his address if it is known when the job ends. It is looked for as for Allow. See Conn.Host. Default: it is not
	// looked for until somebody asks.
	ReverseLookups bool

	// RequireRoot refuses to start unless the effective user is root.
	RequireRoot bool

	// Daemonize sends the daemon into the background: Run returns nil in the launching process as soon as every first
	// child is ready, or the error that kept them from it. Default: stay in the foreground, as service managers and
	// containers want it: in the background nothing is told to a service manager, and its descriptors are not used.
	Daemonize bool

	// NoFork runs the main loop in this very process, which is then parent and child in one: for a debugger, a profiler or a
	// test. There is one main loop, with one slot on the scoreboard, and no other process; hooks are called as ever. What
	// takes another process is refused (reload, upgrade, scale, drain) or off (Pool, Serialize, MaxRequests, MaxAge, MaxMemory, HungAfter,
	// Rlimits, and what makes children's output lines of the log); Daemonize, User, Group and Dequeue are errors. KillChild cancels.
	// When the main loop returns the daemon stops, and Run returns its error. Default false.
	NoFork bool

	// Dir is the directory in which the parent and the children run. Default: "/" with Daemonize, else where the daemon
	// was started. It is entered by Run, so paths that main resolves before Run mean the same in every process.
	Dir string

	// User and Group are who the children are, by name or number; Group's default is the user's own, and the user's
	// further groups come with it. Only root can have children that are somebody else: the parent stays root, binds low
	// ports, and gives each child up to them, with no way back (no capability in any set, and no_new_privs). Anybody else
	// gets a warning in the log and children like himself, or with RequireRoot an error. Default: who the parent is; as
	// root that is worth a warning too.
	User  string
	Group string

	// Umask is the file mode creation mask of the parent and the children. Default 0o027; negative: the one that the
	// daemon was started with.
	Umask int

	// Environ names the environment variables that children and their programs get beside the usual ones (PATH, HOME,
	// LANG, proxies, BROOD_* and the like): NAME, the begin of names and a star, or NAME=value to set one. "*" lets all
	// through. Default: none; the log says at the start which ones are held back. LD_*, GODEBUG and GOTRACEBACK pass from
	// root only if they are named in full.
	Environ []string

	// Rlimits are limits for each child and its programs, as in limits.conf(5): "nofile=4096", "as=2G", "cpu=60",
	// "nproc=64:128" (soft and hard), "stack=unlimited". They hold before ChildInit is called. Default: "core=0". A Go
	// program raises its soft limit of open files to the hard one by itself.
	Rlimits []string

	// RunDir holds the pidfile, the scoreboard and the control socket; mode 0700, made if missing. Default: /run/NAME for
	// root, else $XDG_RUNTIME_DIR/NAME, else NAME-UID in the system's temporary directory.
	RunDir string

	// PIDFile is locked as long as the daemon lives. Default: "pid" in RunDir.
	PIDFile string

	// ErrorLog is the file that gets the parent's messages and whatever children write to standard output and error. "-"
	// is standard error. Default: standard error, or with Daemonize "error.log" in RunDir.
	ErrorLog string

	// AccessLog is the file that gets a line for each job, in AccessFormat, and what children write to Child.AccessLog; "-" is
	// standard output. Default: none, and access lines are dropped.
	AccessLog string

	// AccessFormat is how the lines of AccessLog look: AccessCombined, AccessCommon, AccessJSON, or AccessOwn for a program that
	// writes all of them by itself. Every job that has begun has one line, also if its child was killed or has crashed: then the
	// parent writes it. Default AccessCombined.
	AccessFormat AccessFormat

	// LogFormat is how the lines of ErrorLog look: LogText or LogJSON. Default LogText.
	LogFormat LogFormat

	// LogLevel is from which level on the log gets what the parent and its hooks say: debug, info, warn or error. The events
	// that brood shows, and what children print, do not depend on it. An operator may set another one, which stays over an
	// upgrade. Default info; with Logger: debug, which leaves it to Logger's own handler.
	LogLevel string

	// LogRotate says when both log files are rotated.
	LogRotate LogRotate

	// Logger takes the parent's messages, and the children's output as records, in the place of ErrorLog. It is called on the
	// parent's loop, among others, so it must neither wait for anything nor panic. Default: nil.
	Logger *slog.Logger

	// Pool says how the number of children follows the work: Dynamic, Static or OnDemand. Default Dynamic.
	Pool Pool

	// Prefork is the number of children at the start, and the number that the pool does not go below. Default 3. With
	// OnDemand there are none at the start.
	Prefork int

	// MaxChildren is how many children may serve at once. Default 150, or Prefork if that is more.
	MaxChildren int

	// MinSpare is the number of idle children below which the pool grows: at once, by one, then two, four and up to 32
	// at a time. Children that are starting count as idle. Default 1.
	MinSpare int

	// MaxSpare is the number of idle children above which the pool shrinks. Default: a quarter of the children, at least
	// three; none with OnDemand. It must not be less than MinSpare.
	MaxSpare int

	// IdleTimeout is how long a child must have been idle to be sent away. Default 60 s.
	IdleTimeout time.Duration

	// MinChildAge is how long a child must have served to be sent away for being idle. Default 10 s; negative: no time.
	MinChildAge time.Duration

	// Concurrency is the number of jobs that a child runs at once; a child that has as many does not accept. Default 1:
	// one job per process, which can then be killed without hitting another. Children get GOMAXPROCS=1 at Concurrency 1,
	// and twice a fair share of the processors otherwise, as far as there are so many, unless the environment sets GOMAXPROCS.
	Concurrency int

	// MaxRequests is the number of jobs after which a child is replaced. A tenth of it, at random, is taken off for each
	// child, so that they do not all go at once. Default: no limit.
	MaxRequests int

	// MaxAge is how long a child serves before it is replaced, up to a tenth less at random. Default: no limit.
	MaxAge time.Duration

	// MaxMemory is the memory in bytes above which a child is replaced when a job has ended: its share of what it has
	// mapped (PSS); or all that its cgroup uses, if it has one of its own in which the memory controller is enabled.
	// Looked at once a second at most, and every ten seconds while jobs run on. Default: no limit.
	MaxMemory int64

	// HungAfter is how long a child that starts or is idle may give no sign of life until it is killed: one that is
	// stopped, or whose main loop accepts but does not come back to it. The parent asks for one when half of that time
	// is over. How long a busy child may be so is for JobTimeout to say. Default: nobody is asked.
	HungAfter time.Duration

	// Dequeue is work that no client brings, for children of its own kind.
	Dequeue Dequeue

	// AutoReload says which files make the daemon start a new generation of children when they change: reload.Self() for
	// the program itself, reload.Dirs for what it reads. Default: none.
	AutoReload reload.Set

	// AutoReloadWhen says when AutoReload is obeyed: NotRoot, Always or Never. Default NotRoot; as root the log then says
	// that nothing is watched.
	AutoReloadWhen AutoReloadWhen

	// AutoReloadCheckEvery is how often the files of AutoReload are compared though the kernel has told of no change, for
	// file systems that tell of none. Default: what AutoReload.Poll says, which is 5 s unless it is set. Negative: never,
	// except where the kernel cannot tell, which it itself has said.
	AutoReloadCheckEvery time.Duration

	// AutoReloadHandler is called in the place of a reload when files of AutoReload have changed; p.Reload asks for one.
	// Called in the parent, on a goroutine of its own, one call at a time: changes that come during a call become one more.
	// Default: reload, unless what has changed is the program and it is the one that runs, or one that has failed to start.
	AutoReloadHandler func(p *Parent, c reload.Change)

	// MinReloadInterval is the least time between the beginnings of two reloads: one that is asked for earlier waits.
	// Default: none.
	MinReloadInterval time.Duration

	// TrustedOwner is the user, by name or number, who beside root may own the program, the directories on the way to it and
	// the links, when the parent is root. Nobody else may own or write one of them, or a reload is refused; at the start
	// it is a warning. Default: root alone.
	TrustedOwner string

	// OnClientDisconnect decides what happens to a job whose client has left: KillChild, CancelJob or a policy of your
	// own. Called in the parent, on the hooks' goroutine, once for each lost client. Default: CancelJob.
	OnClientDisconnect func(Disconnect) Action

	// HalfClose says what it means that a client has sent FIN, after which he may still wait for his answer: HalfCloseGone,
	// HalfCloseConfirm or HalfCloseIgnore. Who has left before his connection is accepted, in this sense, is skipped: no job
	// runs for him, OnClientDisconnect is not called, and the scoreboard counts him. Clients that say all they have to say and
	// close at once want HalfCloseIgnore. Default HalfCloseGone, or HalfCloseConfirm if there is a ConfirmGone.
	HalfClose HalfClose

	// ConfirmGone is asked whether the client of conn, who has sent FIN, has left. Called in the child, on a goroutine of its
	// own, once for each job at most, while the job runs. It may write to the connection: who has closed all of it answers
	// with a reset, which is noticed in any case. If it panics, or takes longer than 5 s, the client counts as there, until a
	// reset or silence. Default: nobody is asked; see HalfCloseConfirm.
	ConfirmGone func(conn *Conn) bool

	// ClientTimeout is how long a TCP client's host may give no sign of life until the client counts as lost. The kernel asks
	// for one when a fifth of that time is over, and again after each further fifth (TCP keep-alive). What was sent to the
	// client may be unacknowledged for as long (TCP_USER_TIMEOUT), which also ends the connection of a client who is there but
	// takes no byte for all that time. Default 75 s, at least 5 s; negative: no time, and no keep-alive.
	ClientTimeout time.Duration

	// StartTimeout is how long a child may take from its start until it is ready, and how long a reload waits for a program
	// that is still being written. Default 10 s.
	StartTimeout time.Duration

	// Soak is the probation of a new generation, from when its first child is ready. That one must do a job, or serve for
	// the whole time, beside the old ones before the others follow; and until the time is over the old program is kept, and
	// takes over again if children of the new one die by themselves. Only then the reload is done. Default 2 s; negative:
	// no time.
	Soak time.Duration

	// UpgradeAfterReload makes the parent execute the new program, too, after each reload that has succeeded, as SIGUSR2
	// does: the children have shown that it works. Default: the parent goes on as it is.
	UpgradeAfterReload bool

	// MaxDrainingGenerations is how many old generations may finish their jobs side by side. A reload that would make it
	// more evicts the oldest one: see Job.OnEvict. Default 4.
	MaxDrainingGenerations int

	// MaxDrainingChildren is how many children of old generations may finish their jobs; those that have drained for the
	// longest are evicted in favour of others. Default: four times MaxChildren, but no more than 64 over it. A limit of the
	// system on open files or processes that is too low for so many makes it less, which the log is told.
	MaxDrainingChildren int

	// JobTimeout is how long a job may run. At four fifths of it the log is told; then its context ends, then its process
	// group gets SIGTERM, and then all that it has started SIGKILL, each after KillGrace, and the child is replaced. A
	// job gets more time by Job.Extend. Default: no limit.
	JobTimeout time.Duration

	// DrainTimeout is how long a child of an old generation may go on with its jobs, and how long any child may once its
	// parent is gone. Then its jobs are told to end (see Job.OnEvict), and after KillGrace it is killed. Default 5 min.
	DrainTimeout time.Duration

	// StopTimeout is how long running jobs may go on when the daemon stops. Then they are told to end (see Job.OnEvict), and
	// after KillGrace killed. Default 30 s.
	StopTimeout time.Duration

	// KillGrace is how long a cancelled job may take to come to its end before its child is killed. Default 2 s; negative:
	// kill at once.
	KillGrace time.Duration

	// LingerTimeout is how long a draining child keeps idle connections of net/http open, so that a request already on
	// its way is answered. Ends early when no connection is left. Default 5 s.
	LingerTimeout time.Duration

	// BeforeDaemonize is called in the launcher, in the goroutine that called Run, before the parent is started; only with
	// Daemonize. An error ends the start.
	BeforeDaemonize func() error

	// AfterInit is called once in the parent, in the goroutine that called Run, when the logs and the lock are there and
	// before the first child starts. Bind sockets here with Parent.Listen. An error ends the start.
	AfterInit func(p *Parent) error

	// BeforeSpawn is called in the parent before each child is started, on a goroutine of its own: this child and all that
	// are to be started after it wait for it. An error means that the child cannot be started.
	BeforeSpawn func(p *Parent, slot int, generation uint64) error

	// ChildInit is called in each child before MainLoop. An error or a panic means that the child cannot start.
	ChildInit func(c *Child) error

	// AllReady is called once in the parent, on the hooks' goroutine, when every first child is ready.
	AllReady func(p *Parent)

	// ChildFinish is called in each child when its last job has ended, before it exits.
	ChildFinish func(c *Child)

	// ChildExit is called in the parent, on the hooks' goroutine, for each child that has ended.
	ChildExit func(x Exit)

	// IdleLoop is called in the parent, on the hooks' goroutine, every IdleEvery.
	IdleLoop func(p *Parent)

	// IdleEvery is how often IdleLoop is called. Default 1 s.
	IdleEvery time.Duration

	// BeforeShutdown is called once in the parent, on the hooks' goroutine, before the children are asked to stop; they
	// serve on until it returns, for at most 30 s.
	BeforeShutdown func(p *Parent)

	// Exit is called in the parent, in the goroutine that called Run, when every child is gone, before Run returns err.
	Exit func(err error)

	settings *settings // of Flags; nil: nobody has called it
}
