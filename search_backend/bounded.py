"""A bound on what an aiohttp session reads of an answer."""

from __future__ import annotations

import aiohttp

from search_backend.outside import Unusable, read_body, read_error_body

ANSWER_BYTES = 64 << 20
"""Most bytes of an answer, unpacked. Ten thousand passages of Wikipedia are 6 MB."""


class TooLong(aiohttp.ClientPayloadError):
    """An answer has more than ``ANSWER_BYTES``."""


class BoundedResponse(aiohttp.ClientResponse):
    """A response with a bounded body: the response class of a ``ClientSession``, whose timeout bounds the time."""

    async def read(self) -> bytes:
        """Read the whole body, or the beginning of an error's; a connection with more to come is closed.

        Raises:
            TooLong: The body has more than ``ANSWER_BYTES``.
        """
        # Unpacked: aiohttp does that in steps of bounded size, and no faster than they are taken.
        parts = self.content.iter_any()
        try:
            if self.status >= 400:
                return await read_error_body(parts, "")
            return await read_body(parts, "", ANSWER_BYTES)
        except Unusable as error:
            raise TooLong(str(error)) from error
        finally:
            if not self.content.at_eof():
                self.close()
