package daemon

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"
	"unsafe"
)

// unsaved are the fields that a parent does not tell the next one, and why.
var unsaved = map[string]string{
	"pool.limits":    "they are the next program's own",
	"pool.booting":   "an upgrade waits until the daemon is up",
	"pool.cameUp":    "means nothing once it is",
	"pool.roll":      "an upgrade waits until a reload is over",
	"pool.retreats":  "and so is every retreat",
	"pool.upgrade":   "it is this one",
	"pool.ramp":      "a growth begins with one again",
	"pool.grownAt":   "as above",
	"pool.shrinkAt":  "follows in the next step",
	"pool.knocked":   "whoever knocks waits, and is seen again",
	"pool.armed":     "the next parent listens for itself",
	"pool.scaling":   "those who wait are handed over as operators",
	"pool.draining":  "as above",
	"pool.lines":     "a new log is patient again",
	"pool.unsaid":    "as above",
	"pool.deaths":    "new code, new luck",
	"pool.failed":    "as above",
	"pool.stopping":  "a daemon that stops is not upgraded",
	"pool.stopAt":    "as above",
	"pool.err":       "as above",
	"pool.finished":  "as above",
	"pool.now":       "of a step",
	"pool.out":       "of a step",
	"member.forgot":  "only when old entries of lost are looked at again",
	"member.leavers": "handed over as operators",
	"member.cause":   "only until it is known that it has been started, which an upgrade waits for",
}

// follow are fields that what the next program's configuration says goes before; TestSavedFollowsConfig looks at them.
var follow = []string{"pool.floor", "pool.target"}

// fill gives a value something that is not zero, in every field.
func fill(v reflect.Value, n *int) {
	if !v.CanSet() {
		v = reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem()
	}
	*n++
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint64, reflect.Uint32, reflect.Uint8:
		v.SetUint(uint64(*n % 200))
	case reflect.Float64:
		v.SetFloat(float64(*n))
	case reflect.String:
		v.SetString(fmt.Sprint("text ", *n))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, n)
		fill(value, n)
		v.SetMapIndex(key, value)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1e9, 0).Add(time.Duration(*n) * time.Second)))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	}
}

// copied is what the next parent reads.
func copied(t interface{ Fatalf(string, ...any) }, s savedPool) savedPool {
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatalf("%v", err)
	}
	var got savedPool
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatalf("%v", err)
	}
	return got
}

// Every field of a pool and its members reaches the next parent, or is named above with the reason why it need not.
func TestSavedIsComplete(t *testing.T) {
	n := 0
	was := newPool(testLimits())
	v := reflect.ValueOf(was).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if unsaved["pool."+name] == "" && !slices.Contains(follow, "pool."+name) && name != "members" {
			fill(v.Field(i), &n)
		}
	}
	was.next.reply = nil // handed over as an operator
	m := &member{}
	fill(reflect.ValueOf(m).Elem(), &n)
	m.forgot = never
	was.members = map[int]*member{m.slot: m}
	then, now := watchmaker{time.Unix(1e9, 0), time.Hour}, watchmaker{time.Unix(2e9, 0), time.Hour + time.Second}
	is := newPool(testLimits())
	is.load(copied(t, was.save(then)), now)
	same := func(of, name string, a, b reflect.Value) {
		if unsaved[of+name] != "" || slices.Contains(follow, of+name) || name == "members" {
			return
		}
		if x, y := fmt.Sprintf("%+v", a), fmt.Sprintf("%+v", b); a.IsZero() || a.Kind() == reflect.Bool && x != y {
			t.Errorf("%s%s is %s, and %s in the next parent", of, name, x, y)
		}
		if b.IsZero() {
			t.Errorf("%s%s is forgotten", of, name)
		}
	}
	for i := range v.NumField() {
		same("pool.", v.Type().Field(i).Name, v.Field(i), reflect.ValueOf(is).Elem().Field(i))
	}
	got := is.members[m.slot]
	mv := reflect.ValueOf(m).Elem()
	for i := range mv.NumField() {
		same("member.", mv.Type().Field(i).Name, mv.Field(i), reflect.ValueOf(got).Elem().Field(i))
	}
	// In the clock of the other process, a second later.
	if d := got.deadline.Sub(now.now) - m.deadline.Sub(then.now); d != -time.Second {
		t.Errorf("a deadline has moved by %v", d)
	}
	a, b := copied(t, was.save(then)), copied(t, is.save(now))
	if !reflect.DeepEqual(a.Members, b.Members) || !reflect.DeepEqual(a.Status, b.Status) {
		t.Errorf("saved\n%+v\nand again\n%+v", a, b)
	}
	for name := range unsaved { // no entry outlives its field
		kind, field := reflect.TypeFor[pool](), name[len("pool."):]
		if name[0] == 'm' {
			kind, field = reflect.TypeFor[member](), name[len("member."):]
		}
		if _, ok := kind.FieldByName(field); !ok {
			t.Errorf("there is no %s", name)
		}
	}
}

// What the next configuration says goes before, but a floor that somebody has moved stays.
func TestSavedFollowsConfig(t *testing.T) {
	for _, c := range []struct{ prefork, floor, target, next, max, wantFloor, wantTarget int }{
		{3, 3, 3, 5, 10, 5, 5},
		{3, 3, 7, 5, 10, 5, 7},
		{3, 4, 7, 5, 10, 4, 7},
		{3, 3, 3, 2, 10, 2, 3},
		{3, 8, 8, 2, 6, 6, 6},
	} {
		l := testLimits()
		l.mode, l.prefork = Dynamic, c.prefork
		was := newPool(l)
		was.floor, was.target = c.floor, c.target
		l.prefork, l.maxChildren = c.next, c.max
		is := newPool(l)
		w := watchmaker{time.Now(), time.Hour}
		is.load(copied(t, was.save(w)), w)
		if is.floor != c.wantFloor || is.target != c.wantTarget {
			t.Errorf("%+v: floor %d, target %d", c, is.floor, is.target)
		}
	}
}

// succeed puts a pool into the place of one that is frozen, in a process with another clock, as exec(2) does. Whatever lies in
// pipes and sockets stays there.
func (w *world) succeed(gap, jump time.Duration) {
	const mono = 100_000 * time.Hour
	saved := copied(w.t, w.p.save(watchmaker{w.now, mono}))
	ev := evResume{cause: "test", gap: gap}
	if w.p.next != nil && w.p.next.reply != nil {
		ev.reloads = append(ev.reloads, w.p.next.reply)
	}
	for _, sc := range w.p.scaling {
		if sc.reply != nil {
			ev.scales = append(ev.scales, sc.reply)
		}
	}
	if d := w.p.draining; d != nil {
		for _, f := range slices.Concat(d.begun, d.gone) {
			ev.drains = append(ev.drains, evDrain{reply: f})
		}
	}
	for _, m := range w.p.members {
		for _, f := range m.leavers {
			ev.drains = append(ev.drains, evDrain{pid: m.pid, reply: f})
		}
	}
	for _, f := range w.p.upgrade.replies {
		if f != nil {
			f(nil)
		}
	}
	w.now = w.now.Add(gap + jump)
	here := watchmaker{w.now, mono + gap}
	next := newPool(w.p.limits)
	next.load(saved, here)
	if again := next.save(here); !reflect.DeepEqual(copied(w.t, again), saved) {
		w.t.Fatalf("saved\n%+v\nand again\n%+v", saved, again)
	}
	w.p, w.frozenGate, w.armed = next, false, false
	w.step(ev)
}
