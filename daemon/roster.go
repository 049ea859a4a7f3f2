package daemon

// enlist puts a job behind those that run. Whoever has thousands of them cannot look through all to find the oldest, each
// time that one begins or ends. c.mu is held.
func (c *Child) enlist(j *Job) {
	c.jobs[j.serial] = j
	if j.older = c.newest; j.older == nil {
		c.oldest = j
	} else {
		j.older.newer = j
	}
	c.newest = j
}

// strike takes a job from the list. c.mu is held.
func (c *Child) strike(j *Job) {
	delete(c.jobs, j.serial)
	if j.older == nil {
		c.oldest = j.newer
	} else {
		j.older.newer = j.newer
	}
	if j.newer == nil {
		c.newest = j.older
	} else {
		j.newer.older = j.older
	}
	j.older, j.newer = nil, nil // who keeps the job keeps no other
}
