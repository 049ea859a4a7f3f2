package reload

import (
	"testing"
	"time"
)

func TestAlarm(t *testing.T) {
	a := newAlarm()
	if a == nil {
		t.Fatal("this kernel has no timerfd")
	}
	if !a.set(time.Hour) || !a.set(10*time.Millisecond) { // the second one counts
		t.Fatal("it cannot be set")
	}
	select {
	case <-a.fired():
	case <-time.After(20 * time.Second):
		t.Fatal("it does not go off")
	}
	a.set(10 * time.Millisecond)
	a.set(time.Hour)
	select {
	case <-a.fired():
		t.Error("one that was forgotten goes off")
	case <-time.After(50 * time.Millisecond):
	}
	a.close()
	if a.set(time.Second) {
		t.Error("it can be set after it was closed")
	}
	var none *alarm
	if none.set(time.Second) || none.fired() != nil {
		t.Error("there is an alarm where there is none")
	}
	none.close()
}
