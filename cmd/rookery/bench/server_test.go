package bench

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// playServer is the main function of a server in tests: it takes the arguments of "rookery bench mochi-server".
func playServer(name string) int {
	if name != "mochi" {
		fmt.Fprintln(os.Stderr, "cannot do anything")
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	c := Command()
	c.SetArgs(os.Args[2:])
	if err := c.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
