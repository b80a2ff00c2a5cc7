"""The HTTP client under the official one: whole answers within bounds, whatever an endpoint sends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openai import DefaultAsyncHttpxClient

from search_backend.outside import read_body, read_error_body

if TYPE_CHECKING:
    from httpx2 import Request, Response

_OF_THE_WIRE = frozenset({b"content-encoding", b"content-length", b"content-type", b"transfer-encoding"})


class BoundedClient(DefaultAsyncHttpxClient):
    """Reads every answer whole before it is looked at; the deadline for that is the caller's.

    Of errors it reads the first 64 kB, and it follows no redirects, whose bodies would have no bound.

    Args:
        most: bytes of an answer, unpacked.
    """

    def __init__(self, most: int) -> None:
        # Of what is packed otherwise, one part can unpack to gigabytes at once.
        super().__init__(follow_redirects=False, headers={"Accept-Encoding": "gzip"})
        self._most = most

    async def send(self, request: Request, **options: Any) -> Response:
        """Send a request.

        Raises:
            Unusable: the answer is too long, or not packed as it says.
        """
        response = await super().send(request, **{**options, "stream": True})
        encoding = response.headers.get("content-encoding", "")
        try:
            if response.is_success:
                body = await read_body(response.aiter_raw(), encoding, self._most)
            else:
                body = await read_error_body(response.aiter_raw(), encoding)
        finally:
            await response.aclose()
        # The body is plain now, and is no longer text in whatever the endpoint calls a character set.
        headers = [(name, value) for name, value in response.headers.raw if name.lower() not in _OF_THE_WIRE]
        return type(response)(response.status_code, headers=headers, content=body, request=request)
