"""The two virtual hosts as applications, and the servers of Python that have no command line of their own.

An application reads the host where an ordinary one does. It reads no body.

Run as ``python -m tests.e2e.servers.apps NAME PORT``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

ADDRESS = "192.0.2.2"
SITES = {"www.pass.test": b"served as pass\n", "www.listed.test": b"served as listed\n"}


def choose(host: str | None, target: str) -> bytes:
    """The body of the virtual host. An absolute-form target counts before the Host field (RFC 9112, 3.2.2)."""
    authority = host or ""
    if target.lower().startswith(("http://", "https://")):
        try:
            authority = urlsplit(target).netloc
        except ValueError:
            authority = ""
    return SITES.get(authority.strip().lower().partition(":")[0], b"served as another\n")


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """A WSGI application."""
    body = choose(environ.get("HTTP_HOST"), environ.get("PATH_INFO", ""))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[dict[str, Any]], Any]) -> None:
    """An ASGI application."""
    if scope["type"] != "http":
        return
    host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
    body = choose(host, scope["path"])
    fields = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": body})


def serve_aiohttp(port: int) -> None:
    from aiohttp import web

    async def handle(request: web.BaseRequest) -> web.Response:
        return web.Response(body=choose(request.host, str(request.raw_path)))

    async def make_server() -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", handle)
        return app

    web.run_app(make_server(), host=ADDRESS, port=port, print=lambda *_: None, access_log=None)


def serve_gevent(port: int) -> None:
    from gevent.pywsgi import WSGIServer

    WSGIServer((ADDRESS, port), wsgi, log=None, error_log=None).serve_forever()


def serve_tornado(port: int) -> None:
    import asyncio

    from tornado import httpserver, httputil

    def handle(request: httputil.HTTPServerRequest) -> None:
        body = choose(request.host, request.uri or "")
        fields = httputil.HTTPHeaders({"Content-Length": str(len(body))})
        assert request.connection
        request.connection.write_headers(httputil.ResponseStartLine("HTTP/1.1", 200, "OK"), fields, body)
        request.connection.finish()

    async def serve() -> None:
        httpserver.HTTPServer(handle).listen(port, ADDRESS)
        await asyncio.Event().wait()

    asyncio.run(serve())


def serve_twisted(port: int) -> None:
    from twisted.internet import reactor
    from twisted.web import resource, server

    class Sites(resource.Resource):
        isLeaf = True  # noqa: N815  the library's name

        def render(self, request: server.Request) -> bytes:
            return choose(request.getHeader("host"), request.uri.decode("latin-1"))

    reactor.listenTCP(port, server.Site(Sites()), interface=ADDRESS)
    reactor.run()


def serve_wsgiref(port: int) -> None:
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

    class Threaded(ThreadingMixIn, WSGIServer):
        daemon_threads = True

    class Silent(WSGIRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    make_server(ADDRESS, port, wsgi, Threaded, Silent).serve_forever()


def serve_http_server(port: int) -> None:
    """With connections that stay open, and bodies that nobody reads: they are the next request."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Sites(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = choose(self.headers["Host"], self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_OPTIONS = do_DELETE = do_GET  # noqa: N815  the library's names

        def log_message(self, *_: object) -> None:
            pass

    ThreadingHTTPServer((ADDRESS, port), Sites).serve_forever()


LAUNCHERS = {
    "aiohttp": serve_aiohttp,
    "gevent": serve_gevent,
    "tornado": serve_tornado,
    "twisted": serve_twisted,
    "wsgiref": serve_wsgiref,
    "http.server": serve_http_server,
}

if __name__ == "__main__":
    LAUNCHERS[sys.argv[1]](int(sys.argv[2]))
