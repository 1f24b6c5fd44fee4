package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/usersig"
)

func newUserSig() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "usersig --user ID",
		Short: "Print a UserSig: the password of a user over MQTT, or of an administrator over REST",
		Args:  cobra.NoArgs,
	}
	flags := newConfigFlags(cmd.Flags(), dataDirFlag)
	user := cmd.Flags().String("user", "", "UserID that the UserSig is for")
	expire := cmd.Flags().Duration("expire", 24*time.Hour, "how long it is valid")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !group.Account(*user).Valid() {
			return fmt.Errorf("--user: %q is not a UserID: 1 to %d printable ASCII characters", *user, group.MaxAccountLen)
		}
		if *expire < time.Second {
			return fmt.Errorf("--expire: %v is below one second", *expire)
		}
		cfg, err := flags.load()
		if err != nil {
			return err
		}
		secret, made, err := appSecret(cfg.App)
		if err != nil {
			return err
		}
		if made != "" {
			if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "rookery: no secret is configured, so one was made: %s\n", made); err != nil {
				return err
			}
		}
		app := usersig.App{ID: cfg.App.SDKAppID, Secret: secret.Reveal()}
		sig, err := usersig.Generate(app, *user, time.Now(), *expire, nil)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), sig)
		return err
	}
	return cmd
}
