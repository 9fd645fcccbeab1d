"""Servers that call an application: the application looks at the host that the server itself has parsed.

An absolute-form target ("http://host/") counts before the Host field where the server passes it on (RFC 9112, section
3.2.2); `apps` does the same in Python.
"""

from __future__ import annotations

from tests.e2e.network import ORIGIN_ADDRESS
from tests.e2e.servers.server import Server, python

_NODE_CHOICE = """\
function choose(host, target) {
  const name = (URL.canParse(target) ? new URL(target).host : host || "").toLowerCase().split(":")[0];
  return { "www.pass.test": "served as pass\\n", "www.listed.test": "served as listed\\n" }[name]
    || "served as another\\n";
}
process.on("uncaughtException", () => {});
"""
_NODE_HTTP = f"""{_NODE_CHOICE}
require("http").createServer((request, answer) => answer.end(choose(request.headers.host, request.url)))
  .listen({{port}});
"""
_NODE_HTTP2 = f"""{_NODE_CHOICE}
require("http2").createServer((request, answer) => answer.end(choose(request.authority, request.url)))
  .listen({{port}});
"""
_GO = """\
package main

import (
	"net/http"
	"strings"
)

func main() {
	http.ListenAndServe(":{port}", http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		switch strings.ToLower(strings.Split(request.Host, ":")[0]) {
		case "www.pass.test":
			answer.Write([]byte("served as pass\\n"))
		case "www.listed.test":
			answer.Write([]byte("served as listed\\n"))
		default:
			answer.Write([]byte("served as another\\n"))
		}
	}))
}
"""
_BIND = f"{ORIGIN_ADDRESS}:{{port}}"
_UVICORN = (
    *("-m", "uvicorn", "tests.e2e.servers.apps:asgi", "--host", ORIGIN_ADDRESS, "--port", "{port}"),
    *("--log-level", "critical", "--no-access-log", "--lifespan", "off"),
)


def _launched(name: str, number: int, *modules: str) -> Server:
    """A server that has no command line of its own."""
    return Server(name, number, python("-m", "tests.e2e.servers.apps", name, "{port}"), modules=modules)


APP_SERVERS = [
    Server("Node http", 20, ("node", "{folder}/server.js"), {"server.js": _NODE_HTTP}),
    Server("Node http2", 21, ("node", "{folder}/server.js"), {"server.js": _NODE_HTTP2}, speaks="h2"),
    Server(
        *("Go", 22, ("{folder}/server",), {"server.go": _GO}),
        {"GOCACHE": "{folder}/cache", "GO111MODULE": "off", "GOPATH": "{folder}/path"},
        build=("go", "build", "-o", "{folder}/server", "{folder}/server.go"),
    ),
    Server("uvicorn httptools", 30, python(*_UVICORN, "--http", "httptools"), modules=("uvicorn", "httptools")),
    Server("uvicorn h11", 31, python(*_UVICORN, "--http", "h11"), modules=("uvicorn",)),
    Server(
        *("hypercorn", 32, python("-m", "hypercorn", "tests.e2e.servers.apps:asgi", "--bind", _BIND)),
        modules=("hypercorn",),
    ),
    _launched("aiohttp", 33, "aiohttp"),
    Server(
        *("waitress", 34, python("-m", "waitress", f"--listen={_BIND}", "--threads=32", "tests.e2e.servers.apps:wsgi")),
        modules=("waitress",),
    ),
    _launched("gevent", 35, "gevent"),
    Server(
        "gunicorn",
        36,
        python(
            *("-m", "gunicorn", "--bind", _BIND, "--worker-class", "gthread", "--threads", "32"),
            *("--log-level", "critical", "tests.e2e.servers.apps:wsgi"),
        ),
        modules=("gunicorn",),
    ),
    Server(
        *("cheroot", 37, python("-m", "cheroot", "tests.e2e.servers.apps:wsgi", "--bind", _BIND, "--threads", "32")),
        modules=("cheroot",),
    ),
    _launched("tornado", 38, "tornado"),
    _launched("twisted", 39, "twisted"),
    _launched("wsgiref", 40),
    _launched("http.server", 41),
]
