"""A page tells that it is still there, and that it leaves; see `visits`.

`POST visit/SESSION` and `DELETE visit/SESSION`; Gradio gives each page a session's name that cannot
be guessed.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from demo.visits import Visits


def visit_route(visits: Visits) -> Route:
    """The route to these visits."""

    def tell(request: Request) -> Response:
        change = visits.end if request.method == "DELETE" else visits.hear
        change(request.path_params["visit"])
        return Response(status_code=204)

    return Route("/visit/{visit}", tell, methods=["POST", "DELETE"])
