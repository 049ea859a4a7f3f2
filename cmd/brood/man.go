package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// newMan is for those who make packages.
func newMan() *cobra.Command {
	return &cobra.Command{
		Use:     "man DIR",
		Hidden:  true,
		Short:   "write the manual pages into a directory",
		Long:    "Man writes a manual page for brood and for each of its commands into a directory, which is made if there is none.",
		Example: "  brood man /usr/local/share/man/man1",

		DisableFlagsInUseLine: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("which directory? the manual pages need one")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true // the same pages, whenever they are made: SOURCE_DATE_EPOCH gives them their date
			return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "Brood", Manual: "Brood"}, args[0])
		},
	}
}
