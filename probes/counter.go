package probes

// counter turns single checks into a verdict: as many equal results in a row as the threshold of that result asks for
// make it the verdict, fewer leave the verdict as it is. It is a value; next returns the counter after one more check.
type counter struct {
	verdict          Result
	success, failure int // thresholds, at least 1

	last Result // of the latest check, empty before the first
	run  int    // how many checks in a row ended so
}

// next counts one check that could be made. It returns the counter after it, the verdict that this check reached
// (Unknown below the threshold), and whether that is another verdict than before. A Warning counts as a Success.
func (c counter) next(r Result) (after counter, reached Result, changed bool) {
	if r == Warning {
		r = Success
	}
	if r != c.last {
		c.last, c.run = r, 0
	}
	c.run++
	threshold := c.failure
	if r == Success {
		threshold = c.success
	}
	if c.run < threshold {
		return c, Unknown, false
	}
	changed = r != c.verdict
	c.verdict = r
	return c, r, changed
}
