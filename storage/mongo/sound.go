//go:build !planted_position

package mongo

// positionUnchecked is false in every binary but the one that a test builds to be found out.
const positionUnchecked = false
