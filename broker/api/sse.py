"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from pydantic import BaseModel

MEDIA_TYPE = "text/event-stream"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
HEARTBEAT = b": still here\n\n"
HEARTBEAT_S = 10.0


def frame(event: str, data: BaseModel, id: int | str | None = None) -> bytes:
    """JSON has no line breaks, so that one `data:` line holds it."""
    head = b"" if id is None else f"id: {id}\n".encode()
    return b"%sevent: %s\ndata: %s\n\n" % (head, event.encode(), data.__pydantic_serializer__.to_json(data))
