package daemon

import "iter"

// A jobList is the list of the jobs that run, the one that began first at its head. Whoever has thousands of them cannot look through
// all to find the oldest, each time that one begins or ends; one of a certain number is looked for only when a client has left.
type jobList struct {
	oldest *Job
	newest *Job
	n      int
}

// add puts a job behind those that run.
func (r *jobList) add(j *Job) {
	if j.older = r.newest; j.older == nil {
		r.oldest = j
	} else {
		j.older.newer = j
	}
	r.newest = j
	r.n++
}

// remove takes a job from the list.
func (r *jobList) remove(j *Job) {
	if j.older == nil {
		r.oldest = j.newer
	} else {
		j.older.newer = j.newer
	}
	if j.newer == nil {
		r.newest = j.older
	} else {
		j.newer.older = j.older
	}
	j.older, j.newer = nil, nil // who keeps the job keeps no other
	r.n--
}

// has reports whether a job runs.
func (r *jobList) has(j *Job) bool { return j.older != nil || r.oldest == j }

// find returns the job with this serial; nil: it does not run.
func (r *jobList) find(serial uint64) *Job {
	for j := range r.all() {
		if j.serial == serial {
			return j
		}
	}
	return nil
}

// all are those that run. None may be removed meanwhile.
func (r *jobList) all() iter.Seq[*Job] {
	return func(yield func(*Job) bool) {
		for j := r.oldest; j != nil && yield(j); j = j.newer {
		}
	}
}
