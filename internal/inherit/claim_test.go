package inherit

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/google/go-cmp/cmp"
)

func TestClaimRoundTrip(t *testing.T) {
	numbers := rapid.IntRange(0, math.MaxInt32)
	rapid.Check(t, func(rt *rapid.T) {
		c := Claim{Role: rapid.SampledFrom([]Role{Launcher, Parent, Child, Successor, Trial}).Draw(rt, "role")}
		switch c.Role {
		case Parent:
			c.Ready = numbers.Draw(rt, "ready")
		case Successor:
			c.State = numbers.Draw(rt, "state")
		case Trial:
			c.State, c.Papers = numbers.Draw(rt, "state"), numbers.Draw(rt, "papers")
		case Child:
			c.Proto, c.Papers = newest, PapersFD
			c.Slot, c.Listeners = numbers.Draw(rt, "slot"), numbers.Draw(rt, "listeners")
			c.Generation = uint64(numbers.Draw(rt, "generation"))
			c.Procs = rapid.Bool().Draw(rt, "procs")
			c.Kind = uint64(numbers.Draw(rt, "kind"))
		}
		name, value, _ := strings.Cut(c.Environ(), "=")
		if want := c.Role != Launcher; (name == Var) != want {
			rt.Errorf("%+v gives the variable %q", c, name)
		}
		if got, err := parse(value); got != c || err != nil {
			rt.Errorf("%+v is %q and comes back as %+v, %v", c, c.Environ(), got, err)
		}
	})
}

func TestClaimGarbage(t *testing.T) {
	for _, value := range []string{
		"1", "child", "parent", ":", "child:", "parent:", " ", "child:2", "parent:3", "Child:2:0:1:2:0:0", "launcher:2:0",
		"child:5:0:1:2:0", "child:5:0:1:2:0:0:0", "parent:5:2:3", "child:5:0:1:2:0:0 ", "child:5:-1:1:2:0:0", "child:5:+1:1:2:0:0",
		"child:5::1:2:0:0", "child:5:0x1:1:2:0:0", "child:5:0:1:2147483648:0:0", "child:5:99999999999999999999:1:2:0:0",
		"child:0:0:1:2:0:0", "child:1:0:1:2:0:0", "parent:1:7", "parent:5:-7", "child:5:0:1:2:0:0\n", "\xff\x1b[2J",
	} {
		c, err := parse(value)
		if c != (Claim{}) || !errors.Is(err, errClaim) || !strings.Contains(err.Error(), fmt.Sprintf("BROOD=%q", value)) {
			t.Errorf("%q: %+v, %v; want an error that quotes it", value, c, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("child:5:0:1:2:0:0")
	f.Add("parent:5:64")
	f.Fuzz(func(t *testing.T, value string) {
		c, err := parse(value)
		if err != nil {
			return
		}
		again, err := parse(strings.TrimPrefix(c.Environ(), Var+"="))
		if again != c || err != nil || c.Slot < 0 || c.Listeners < 0 || c.Ready < 0 {
			t.Fatalf("%q is %+v, and that comes back as %+v, %v", value, c, again, err)
		}
	})
}

// Neither the next process, nor this one from now on, nor a program that it starts finds a mark that gives it a role. The
// settings are for the daemon's own processes, and nobody else's.
func TestTake(t *testing.T) { // B7
	marks := []string{
		"_GO_DAEMON=1", "LISTEN_FDS=2", "LISTEN_PID=4711", "LISTEN_FDNAMES=a:b", "LISTEN_PIDFDID=7",
		"NOTIFY_SOCKET=/run/notify", "WATCHDOG_USEC=1000", "WATCHDOG_PID=4711",
	}
	settings := []string{"BROOD_PREFORK=7", "BROOD_=", "BROOD_IDLE_TIMEOUT=60s"}
	others := []string{
		"PATH=/usr/bin:/bin", "BROODER=1", "MY_BROOD=1", "MY_BROOD_PREFORK=1", "brood=1", "LISTEN=1", "LISTENER_FDS=1",
		"NOTIFY_SOCKETS=1", "WATCHDOG=1", "GO_DAEMON=1", "EMPTY=", "EQUALS=a=b",
	}
	for _, c := range []struct {
		value, procs string // of BROOD and GOMAXPROCS, "" if there is none
		claim        Claim
		keeps        bool // GOMAXPROCS
	}{
		{"", "", Claim{}, false},
		{"", "3", Claim{}, true},
		{"parent:5:64", "3", Claim{Role: Parent, Ready: 64}, true},
		{"child:5:5:9:2:0:0", "3", Claim{Role: Child, Papers: PapersFD, Proto: 5, Slot: 5, Generation: 9, Listeners: 2}, true},
		{"child:5:5:9:2:1:0", "1", Claim{Role: Child, Papers: PapersFD, Proto: 5, Slot: 5, Generation: 9, Listeners: 2, Procs: true}, false},
		{"child:5:5:9:2:0:1", "3", Claim{Role: Child, Papers: PapersFD, Proto: 5, Slot: 5, Generation: 9, Listeners: 2, Kind: 1}, true},
		{"nonsense", "3", Claim{}, true},
	} {
		var env, mine []string
		if c.value != "" {
			env = append(env, Var+"="+c.value)
		}
		env = append(append(append(env, marks...), settings...), others...)
		env = append(env, TreeVar+"=1.2.3.4")
		mine = append(mine, others...)
		if c.procs != "" {
			env = append(env, "GOMAXPROCS="+c.procs)
		}
		if c.keeps {
			mine = append(mine, "GOMAXPROCS="+c.procs)
		}
		// What a child's jobs start is known by it; nobody hands it on.
		var tree []string
		if c.claim.Role == Child {
			tree = []string{TreeVar + "=1.2.3.4"}
		}
		var got Taken
		answer(t, role("take", "first", env...), &got)
		if got.Claim != c.claim || (got.Err != "") != (c.value == "nonsense") {
			t.Errorf("%s=%s: %+v %s; want %+v", Var, c.value, got.Claim, got.Err, c.claim)
		}
		same := cmp.Transformer("sort", func(env []string) map[string]bool {
			set := map[string]bool{}
			for _, kv := range env {
				set[kv] = true
			}
			return set
		})
		for _, e := range []struct {
			what      string
			got, want []string
		}{
			{"the next process", got.Next, slices.Concat(settings, mine)},
			{"this process", got.Own, slices.Concat(tree, mine)},
			{"a program of this toolkit that a job starts", got.Program, mine},
		} {
			if diff := cmp.Diff(e.want, e.got, same); diff != "" || len(e.got) != len(e.want) {
				t.Errorf("%s=%s: environment of %s, want (-) against got (+):\n%s", Var, c.value, e.what, diff)
			}
		}
	}
}
