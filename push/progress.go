package push

import "context"

type progressKey struct{}

// WithProgress returns a context with which Send tells fn of each device's result as soon as
// the call that brought it has ended, while others of the same Send may still wait. fn is called
// by several goroutines at once and must not block. What Send returns in the end stays complete.
func WithProgress(ctx context.Context, fn func(Token, Result)) context.Context {
	return context.WithValue(ctx, progressKey{}, fn)
}

// ReportProgress is for providers: it tells whoever asked with WithProgress, if anybody did.
func ReportProgress(ctx context.Context, t Token, r Result) {
	if fn, ok := ctx.Value(progressKey{}).(func(Token, Result)); ok {
		fn(t, r)
	}
}
