package test

import (
	"fmt"
	"testing"
)

// However children take turns in accepting, nobody works for a client who has left, in order or not, and nobody else is hurt.
func TestSerializeGone(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	for _, mode := range serializeModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := openSite(t)
			d := mustServe(t, s, "jobs", "-serialize", mode, "-pool", "static", "-prefork", "3", "-kill-grace", "100ms")
			for i, how := range []string{"fin", "rst"} {
				v, err := visitTo(d.addr)
				if err == nil {
					err = v.send("/job?seconds=60&kind=spin&id=" + how)
				}
				if err != nil {
					t.Fatal(err)
				}
				victim := mustPick(t, d, "busy=true")
				if err := v.leave(how); err != nil {
					t.Fatal(err)
				}
				if _, err := d.await(fmt.Sprint("lost=", i+1), fmt.Sprint("killed=", i+1), "died=0", "children=3", "idle=3", fmt.Sprint("born=", 3+i+1)); err != nil {
					t.Fatal(err)
				}
				if p, err := lookAt(victim); err == nil && p.state != 'Z' {
					t.Errorf("%s: the child that worked for him is still there: %v", how, p)
				}
			}
			if body, err := get(d.addr + "/"); err != nil {
				t.Errorf("%q, %v", body, err)
			}
		})
	}
}
