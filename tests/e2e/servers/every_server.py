"""All servers under test."""

from __future__ import annotations

from tests.e2e.servers.app_servers import APP_SERVERS
from tests.e2e.servers.web_servers import WEB_SERVERS

SERVERS = [*WEB_SERVERS, *APP_SERVERS]
