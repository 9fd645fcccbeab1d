"""The private names of mitmproxy and its libraries that the gate uses: a new version may change any of them.

`pyproject.toml` allows no new major version of mitmproxy. No other module imports a private name.
"""

from __future__ import annotations

from aioquic._crypto import CryptoError as CryptoError
from h11._readers import ChunkedReader as ChunkedReader
from h11._receivebuffer import ReceiveBuffer as ReceiveBuffer
from mitmproxy.addons.next_layer import _starts_like_quic
from mitmproxy.proxy.layers.http._base import HttpEvent as HttpEvent
from mitmproxy.proxy.layers.http._base import ReceiveHttp as ReceiveHttp
from mitmproxy.proxy.layers.http._events import ErrorCode as ErrorCode
from mitmproxy.proxy.layers.http._events import RequestHeaders as RequestHeaders
from mitmproxy.proxy.layers.http._events import RequestProtocolError as RequestProtocolError
from mitmproxy.proxy.layers.http._events import ResponseEndOfMessage as ResponseEndOfMessage
from mitmproxy.proxy.layers.http._events import ResponseProtocolError as ResponseProtocolError
from mitmproxy.proxy.layers.http._hooks import HttpConnectedHook as HttpConnectedHook
from mitmproxy.proxy.layers.http._hooks import HttpConnectErrorHook as HttpConnectErrorHook
from mitmproxy.proxy.layers.http._hooks import HttpConnectHook as HttpConnectHook
from mitmproxy.proxy.layers.http._http1 import Http1Server as Http1Server
from mitmproxy.proxy.layers.http._http1 import make_body_reader as make_body_reader
from mitmproxy.proxy.layers.http._http2 import Http2Server as Http2Server
from mitmproxy.proxy.layers.http._upstream_proxy import HttpUpstreamProxy as HttpUpstreamProxy
from mitmproxy.proxy.layers.quic._stream_layers import (
    SUPPORTED_QUIC_VERSIONS_SERVER as SUPPORTED_QUIC_VERSIONS_SERVER,
)

starts_like_quic = _starts_like_quic
