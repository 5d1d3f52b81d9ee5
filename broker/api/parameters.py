"""What stands behind the `?` of a request: a name that a route does not know is a mistake, and is told so."""

from fastapi import Request
from fastapi.routing import APIRoute

from broker.errors import BadInput
from broker.protocol.api import ErrorCode, Finding
from broker.protocol.findings import near


async def known_alone(request: Request) -> None:
    """Raises BadInput."""
    route = request.scope.get("route")
    if not request.scope["query_string"] or not isinstance(route, APIRoute):
        return
    known = [parameter.alias for parameter in route.dependant.query_params]
    findings = [
        Finding(
            where=name, message="unknown parameter", hint=near(name, known) or f"known: {', '.join(known) or 'none'}"
        )
        for name in request.query_params
        if name not in known
    ]
    if findings:
        raise BadInput(findings[:50], ErrorCode.BAD_REQUEST)
