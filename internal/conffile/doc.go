// Package conffile reads configuration files: one KEY VALUE in a line.
//
//	# What begins with a number sign, at the begin of a line or after a blank, is a comment.
//	prefork      8
//	listen       :8080         # a key may be repeated, if it is one of a list
//	listen       unix:/run/jobs/http
//	environ      "GREETING=  two blanks, and a # that is none"
//
// A value is the rest of the line, without the blanks around it and without a comment. Blanks at its ends and a number sign after a
// blank want quotes: a value that begins with one is a string of Go's, with its escapes, and "" is the empty one. A file names no
// other file, and has no sections.
//
// What a key means is not known here. An error names the file, the line and what is wrong there.
package conffile
