//go:build planted_position

package mongo

// positionUnchecked is a planted bug for the test with two processes, which must find it: a
// message whose place is taken counts as stored.
const positionUnchecked = true
