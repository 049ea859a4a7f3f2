module github.com/brooddaemon/brood/test/accept

go 1.26.0

require (
	github.com/brooddaemon/brood v0.0.0
	github.com/valyala/fasthttp v1.74.0
	golang.org/x/sys v0.49.0
)

require (
	github.com/fsnotify/fsnotify v1.10.1 // indirect
	github.com/kardianos/osext v0.0.0-20190222173326-2bc1f35cddc0 // indirect
	github.com/klauspost/compress v1.20.0 // indirect
	github.com/molecule-man/go-brrr v1.0.1 // indirect
	github.com/pires/go-proxyproto v0.15.0 // indirect
	github.com/sevlyar/go-daemon v0.1.6 // indirect
	github.com/valyala/bytebufferpool v1.0.0 // indirect
	gopkg.in/natefinch/lumberjack.v2 v2.2.1 // indirect
)

replace github.com/brooddaemon/brood => ../..
