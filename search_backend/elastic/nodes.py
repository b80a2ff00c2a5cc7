"""Connections to Elasticsearch whose answers are bounded in size and in time, for both kinds of client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
from elastic_transport import AiohttpHttpNode, BaseNode, HttpHeaders, NodeConfig
from elastic_transport.client_utils import DEFAULT, DefaultType

from search_backend.background import BackgroundLoop
from search_backend.bounded import BoundedResponse

if TYPE_CHECKING:
    from elastic_transport._node import NodeApiResponse


class BoundedAsyncNode(AiohttpHttpNode):
    """The library's asynchronous connection, with a bound on answers; the request's timeout is for all of one."""

    def _create_aiohttp_session(self) -> None:
        super()._create_aiohttp_session()
        assert self.session is not None
        connector = self.session.connector
        self.session.detach()
        self.session = aiohttp.ClientSession(
            connector=connector,
            headers=self.headers,
            skip_auto_headers=("accept", "accept-encoding", "user-agent"),
            cookie_jar=aiohttp.DummyCookieJar(),
            response_class=BoundedResponse,
        )


class BoundedNode(BaseNode):
    """The same for the synchronous client: urllib3's timeout would be for every read by itself."""

    _CLIENT_META_HTTP_CLIENT = AiohttpHttpNode._CLIENT_META_HTTP_CLIENT

    def __init__(self, config: NodeConfig) -> None:
        super().__init__(config)
        self._node = BoundedAsyncNode(config)
        self._background = BackgroundLoop("elasticsearch-sync")

    def perform_request(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: HttpHeaders | None = None,
        request_timeout: DefaultType | float | None = DEFAULT,
    ) -> NodeApiResponse:
        """Send a request and wait for its answer."""
        return self._background.run(self._node.perform_request(method, target, body, headers, request_timeout))

    def close(self) -> None:
        """Close the connections."""
        self._background.close(self._node.close)
