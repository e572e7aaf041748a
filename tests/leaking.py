"""The service with a planted leak: every body is kept. Run by the soak test, which must notice."""

from __future__ import annotations

from serving import server

KEPT = []


def app():
    """The guarded service, behind a wrapper that forgets nothing."""
    guarded = server.app()

    async def keeping(scope, receive, send):
        async def kept():
            message = await receive()
            KEPT.append(bytearray(message.get("body", b"")))
            return message

        await guarded(scope, kept, send)

    return keeping
