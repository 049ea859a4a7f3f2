// Package web shows daemons in a browser, to Prometheus and to whoever asks for their health.
//
// It reads their scoreboards and asks no daemon anything: it works as well when a parent hangs or is dead, and nobody can
// change anything through it. What it reads may have been written by strangers (the text of a job is what a client has sent),
// so it is escaped before it is sent and is never more than text in the page.
package web
