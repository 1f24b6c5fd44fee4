// Command rookery is the Rookery server and its tools in one binary. It only wires: what a
// subcommand does lives in the packages, and each subcommand has a file of its own here.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// run executes the command line args and returns the exit code: 1 after an error, which is
// one line on stderr. The first SIGINT or SIGTERM ends the context that the subcommand sees; a
// second one ends the process at once.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		_, _ = fmt.Fprintln(stderr, "rookery:", oneLine(err)) // nobody is left to tell
		return 1
	}
	return 0
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "rookery",
		Short: "Group messages over MQTT: numbered, durable, fanned out",
		// --version prints what the subcommand does.
		Version: versionLine(),
		// run prints the error, and a screenful of usage would hide it.
		SilenceErrors:      true,
		SilenceUsage:       true,
		DisableSuggestions: true,
		CompletionOptions:  cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetHelpCommand(newHelp())
	root.AddCommand(newServe(), newUserSig(), newBench(), newMigrate(), newExport(), newImport(), newVersion(), newOutbox(), newPush(), newDoctor())
	for _, cmd := range root.Commands() {
		if cmd.HasSubCommands() {
			refuseOthers(cmd)
		}
	}
	return root
}

// newHelp is Cobra's help command, for which a topic that does not exist is an error, too.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [command]",
		Short: "Help about any command",
		RunE: func(cmd *cobra.Command, args []string) error {
			topic, rest, err := cmd.Root().Find(args)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return fmt.Errorf("unknown command %q for %q", rest[0], topic.CommandPath())
			}
			topic.InitDefaultHelpFlag() // which its help lists
			return topic.Help()
		},
	}
}

// refuseOthers makes what is no subcommand of group an error, as it is for the root; Cobra would
// show the help and succeed.
func refuseOthers(group *cobra.Command) {
	group.DisableFlagsInUseLine = true
	group.Args = cobra.ArbitraryArgs
	group.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())
		}
		return cmd.Help()
	}
}

// oneLine joins the lines of err, which has several where errors were joined.
func oneLine(err error) string {
	var lines []string
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}
