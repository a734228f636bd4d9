"""The routes."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import Route

from . import contents, repos, revisions
from .calls import Call, Hub, endpoint
from .errors import not_found


def build_app(hub: Hub) -> Starlette:
    """The application. Paths reach it as they were sent: their parameters are decoded one by one."""
    app = Starlette(routes=_routes())
    app.state.hub = hub
    return app


def _routes() -> list[Route]:
    routes = [
        Route("/api/whoami-v2", endpoint(repos.whoami)),
        Route("/api/validate-yaml", endpoint(repos.validate_yaml), methods=["POST"]),
        Route("/api/repos/create", endpoint(repos.create), methods=["POST"]),
        Route("/api/repos/delete", endpoint(repos.delete), methods=["DELETE"]),
        Route("/large-files/{sha256}", endpoint(contents.download)),
        Route("/large-files/{sha256}", contents.upload, methods=["PUT"]),
    ]
    for kind in ("models", "datasets"):
        routes += _routes_of(kind)
    return [*routes, Route("/{path:path}", endpoint(_nothing), methods=["GET", "POST", "PUT", "DELETE"])]


def _routes_of(kind: str) -> list[Route]:
    api, page = f"/api/{kind}/{{namespace}}/{{name}}", "" if kind == "models" else f"/{kind}"
    page += "/{namespace}/{name}"

    def route(path: str, handler, *methods: str) -> Route:
        def with_kind(call: Call):
            call.params["kind"] = kind
            return handler(call)

        return Route(path, endpoint(with_kind), methods=methods or ["GET"])

    return [
        route(f"/api/{kind}", repos.listing),
        route(api, repos.info),
        route(f"{api}/revision/{{revision}}", repos.info),
        route(f"{api}/settings", repos.settings, "PUT"),
        route(f"{api}/preupload/{{revision}}", revisions.preupload, "POST"),
        route(f"{api}/commit/{{revision}}", revisions.commit, "POST"),
        route(f"{api}/tag/{{revision}}", revisions.add_tag, "POST"),
        route(f"{api}/tag/{{revision}}", revisions.delete_tag, "DELETE"),
        route(f"{api}/branch/{{revision}}", revisions.add_branch, "POST"),
        route(f"{api}/branch/{{revision}}", revisions.delete_branch, "DELETE"),
        route(f"{api}/super-squash/{{revision}}", revisions.squash, "POST"),
        route(f"{api}/refs", revisions.refs),
        route(f"{api}/commits/{{revision}}", revisions.commits),
        route(f"{api}/tree/{{revision}}", revisions.tree),
        route(f"{api}/tree/{{revision}}/{{path:path}}", revisions.tree),
        route(f"{api}/paths-info/{{revision}}", revisions.paths_info, "POST"),
        route(f"{page}.git/info/lfs/objects/batch", contents.batch, "POST"),
        route(f"{page}.git/info/lfs/verify", contents.verify, "POST"),
        route(f"{page}/resolve/{{revision}}/{{path:path}}", contents.resolve),
    ]


def _nothing(call: Call):
    raise not_found("Not found", "RepoNotFound" if call.request.scope["path"].startswith("/api/") else "EntryNotFound")
