package test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// fields are the words that conditions speak of: a status or a child as a flat table.
type fields map[string]string

// fields of a status: what the parent says, and how many children are in which state. busy counts those with a job in
// hand, ready those that have or can take one; generations is a list such as 1,2 of those that children belong to; text is what they say they are doing.
func (st *status) fields() fields {
	f := fields{
		"running": fmt.Sprint(st.Running), "name": st.Daemon.Name, "pid": fmt.Sprint(st.Daemon.PID),
		"state": st.Status.State, "generation": fmt.Sprint(st.Status.Generation), "rolling": fmt.Sprint(st.Status.Rolling),
		"want": fmt.Sprint(st.Status.Want), "born": fmt.Sprint(st.Status.Born), "died": fmt.Sprint(st.Status.Died),
		"killed": fmt.Sprint(st.Status.Killed), "lost": fmt.Sprint(st.Status.Lost), "reload": st.Status.Reload,
		"reload_ok": fmt.Sprint(st.Status.ReloadOK), "listen": st.Listen, "children": fmt.Sprint(len(st.Children)),
	}
	count, done, skipped, refused, generations, text := map[string]int{}, st.Status.Done, st.Status.Skipped, st.Status.Refused, map[string]bool{}, ""
	for _, c := range st.Children {
		count[c.State]++
		done += c.Done
		skipped += c.Skipped
		refused += c.Refused
		text += c.Text + "\n"
		generations[fmt.Sprint(c.Generation)] = true
	}
	for _, state := range []string{"starting", "idle", "reading", "working", "cancelling", "draining"} {
		f[state] = fmt.Sprint(count[state])
	}
	f["busy"] = fmt.Sprint(count["reading"] + count["working"] + count["cancelling"])
	f["ready"] = fmt.Sprint(count["idle"] + count["reading"] + count["working"])
	f["done"] = fmt.Sprint(done)
	f["skipped"], f["refused"] = fmt.Sprint(skipped), fmt.Sprint(refused)
	f["text"] = text
	f["generations"] = strings.Join(slices.Sorted(maps.Keys(generations)), ",")
	return f
}

func (c *child) fields() fields {
	f := fields{
		"slot": fmt.Sprint(c.Slot), "pid": fmt.Sprint(c.PID), "generation": fmt.Sprint(c.Generation), "state": c.State,
		"cause": c.Cause, "done": fmt.Sprint(c.Done), "job": fmt.Sprint(c.Job), "client": c.Client, "text": c.Text,
	}
	f["running"] = fmt.Sprint(c.Running)
	f["busy"] = fmt.Sprint(c.State == "reading" || c.State == "working" || c.State == "cancelling")
	return f
}

var conditionPattern = regexp.MustCompile(`^([a-z_]+)(<=|>=|!=|=|<|>|~)(.*)$`)

// unmet returns an error unless every condition holds. A condition is NAME=VALUE, with != for not, < <= > >= between
// numbers, and ~ for a regular expression.
func (f fields) unmet(conditions []string) error {
	for _, cond := range conditions {
		m := conditionPattern.FindStringSubmatch(cond)
		if m == nil {
			return failure{fmt.Errorf("condition %q: want NAME=VALUE", cond)}
		}
		have, ok := f[m[1]]
		if !ok {
			return failure{fmt.Errorf("condition %q: there is no %s in %v", cond, m[1], f)}
		}
		met, err := compare(have, m[2], m[3])
		if err != nil {
			return failure{fmt.Errorf("condition %q: %w", cond, err)}
		}
		if !met {
			return fmt.Errorf("%s: %s is %q", cond, m[1], have)
		}
	}
	return nil
}

func compare(have, op, want string) (bool, error) {
	switch op {
	case "=":
		return have == want, nil
	case "!=":
		return have != want, nil
	case "~":
		return regexp.MatchString(want, have)
	}
	a, err := strconv.ParseInt(have, 10, 64)
	if err != nil {
		return false, err
	}
	b, err := strconv.ParseInt(want, 10, 64)
	if err != nil {
		return false, err
	}
	switch op {
	case "<":
		return a < b, nil
	case "<=":
		return a <= b, nil
	case ">":
		return a > b, nil
	}
	return a >= b, nil
}

// await waits until brood status shows what the conditions say, and returns that status.
func (d *server) await(conditions ...string) (*status, error) {
	var st *status
	err := eventually(patience, func() (err error) {
		if st, err = d.status(); err != nil {
			return err
		}
		return st.fields().unmet(conditions)
	})
	if err != nil {
		return st, fmt.Errorf("status of %s: %w\nlast: %v", d.name, err, st)
	}
	return st, nil
}

// pick returns the pid of the first child of which all conditions are true, and waits for one.
func (d *server) pick(conditions ...string) (int, error) {
	pid := 0
	err := eventually(patience, func() error {
		st, err := d.status()
		if err != nil {
			return err
		}
		for _, c := range st.Children {
			if err = c.fields().unmet(conditions); err == nil {
				pid = c.PID
				return nil
			}
			if _, wrong := err.(failure); wrong {
				return err
			}
		}
		return fmt.Errorf("no child with %v in %v", conditions, st)
	})
	return pid, err
}
