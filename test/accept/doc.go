// Package accept measures how a daemon of this toolkit takes connections, in every mode of Config.Serialize, against the usual
// ways of Go programs with several processes, side by side in one run:
//
//	go test -bench . -benchtime 1x -timeout 5m
//
// It is a module of its own, so that fasthttp does not become a dependency of the toolkit. All that is measured is one
// program, server, with one handler and one server, fasthttp's; only who accepts, and how, is another. The rounds of
// all take turns, and the medians are compared. Figures of one machine mean little, and ratios more.
package accept
