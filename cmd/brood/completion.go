package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/brooddaemon/brood/cmd/brood/internal/view"
	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/scoreboard"
)

func newCompletion() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "a script that has a shell complete commands, flags and the names of daemons",
		Long: "Completion prints a script. The shell that reads it completes commands, flags, the names of the daemons whose run\n" +
			"directories you can see, and for brood why the children of one. Where each shell looks for such scripts its manual says.",
		Example: "  source <(brood completion bash)\n  brood completion zsh > \"${fpath[1]}/_brood\"\n" +
			"  brood completion fish > ~/.config/fish/completions/brood.fish",
		ValidArgs:             []string{"bash", "zsh", "fish"},
		DisableFlagsInUseLine: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("for which shell? one of %s", strings.Join(cmd.ValidArgs, ", "))
			}
			return cobra.OnlyValidArgs(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			default:
				return root.GenFishCompletion(out, true)
			}
		},
	}
}

// completeDaemon completes the name of a daemon, or its directory if a separator has been typed.
func completeDaemon(_ *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	switch {
	case len(args) > 0:
		return nil, cobra.ShellCompDirectiveNoFileComp
	case strings.ContainsRune(typed, os.PathSeparator) || strings.HasPrefix(typed, "."):
		return nil, cobra.ShellCompDirectiveFilterDirs
	}
	return daemons(), cobra.ShellCompDirectiveNoFileComp
}

// completeChild completes the name of a daemon and then the process id of one of its children.
func completeChild(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return completeDaemon(cmd, args, typed)
	}
	t, err := find(args[0])
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	s, err := scoreboard.Read(t.board())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var all []cobra.Completion
	for _, c := range s.Children {
		if c.PID == 0 { // it is being born, and 0 would be taken for a slot
			continue
		}
		all = append(all, cobra.CompletionWithDesc(fmt.Sprint(c.PID), fmt.Sprintf("slot %d, %s", c.Slot, c.State)))
	}
	return all, cobra.ShellCompDirectiveNoFileComp
}

// daemons are the names of those whose run directories are where this user's are by default, and can be read.
func daemons() []cobra.Completion {
	const some = "x"
	base := filepath.Dir(control.RunDir(some))
	suffix := strings.TrimPrefix(filepath.Base(control.RunDir(some)), some)
	entries, err := os.ReadDir(base)
	if err != nil {
		return nil
	}
	var all []cobra.Completion
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok || control.CheckName(name) != nil {
			continue
		}
		s, err := scoreboard.Read(filepath.Join(base, e.Name(), control.BoardName))
		if err != nil {
			continue
		}
		about := "not running" // but brood status tells what it has left
		if view.Alive(view.Parent(s.Identity)) {
			about = fmt.Sprintf("%d children", len(s.Children))
		}
		all = append(all, cobra.CompletionWithDesc(name, about))
	}
	return all
}
