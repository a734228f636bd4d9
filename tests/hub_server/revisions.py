"""Handlers: commits, references, and what a revision holds."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from starlette.responses import JSONResponse, Response

from .calls import Call
from .errors import HubError, not_found
from .gitobjects import Entry, Tree, folder_oid, folders_of, is_large
from .store import Commit


def preupload(call: Call) -> Any:
    repo, _ = call.to_write()
    commit = call.store.revision(repo, call.params["revision"])
    attributes = call.store.path(commit.tree[".gitattributes"]).read_text() if ".gitattributes" in commit.tree else ""
    files = []
    for file in call.json()["files"]:
        large = is_large(file["path"], file["size"], attributes, call.hub.lfs_threshold)
        answer = {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
        if file["path"] in commit.tree:
            answer["oid"] = commit.tree[file["path"]].etag
        files.append(answer)
    return {"files": files}


def commit(call: Call) -> Any:
    repo, account = call.to_write()
    if call.flag("create_pr"):
        raise HubError(400, "This server has no pull requests")
    header: dict[str, Any] = {}
    operations = []
    for line in call.body.splitlines():
        operation = json.loads(line)
        if operation["key"] == "header":
            header = operation["value"]
            continue
        if operation["key"] == "file":
            operation["value"]["content"] = _content(operation["value"])
        operations.append(operation)
    made = call.store.commit(
        repo,
        call.params["revision"].removeprefix("refs/heads/"),
        operations,
        title=header.get("summary") or "",
        message=header.get("description") or "",
        author=account.name,
        parent=header.get("parentCommit"),
    )
    return {"success": True, "commitOid": made.oid, "commitUrl": f"{call.link}/commit/{made.oid}", "hookOutput": ""}


def _content(value: dict[str, Any]) -> bytes:
    if value.get("encoding") != "base64":
        return value["content"].encode()
    try:
        return base64.b64decode(value["content"], validate=True)
    except binascii.Error as error:
        raise HubError(400, f"{value['path']} is not base64: {error}") from error


def add_tag(call: Call) -> Any:
    repo, _ = call.to_write()
    fields = call.json()
    message = fields.get("message") or ""
    call.store.add_ref(repo, "tag", fields["tag"], call.params["revision"], message=message)
    return JSONResponse({"name": fields["tag"], "message": message}, 201)


def delete_tag(call: Call) -> Any:
    repo, _ = call.to_write()
    call.store.delete_ref(repo, "tag", call.params["revision"])
    return Response(status_code=204)


def add_branch(call: Call) -> Any:
    repo, _ = call.to_write()
    start = (call.json() if call.body else {}).get("startingPoint") or "main"
    call.store.add_ref(repo, "branch", call.params["revision"], start)
    return JSONResponse({"name": call.params["revision"]}, 201)


def delete_branch(call: Call) -> Any:
    repo, _ = call.to_write()
    if call.params["revision"] == "main":
        raise HubError(403, "The main branch cannot be deleted")
    call.store.delete_ref(repo, "branch", call.params["revision"])
    return Response(status_code=204)


def squash(call: Call) -> Any:
    repo, account = call.to_write()
    call.store.squash(repo, call.params["revision"], call.json().get("message") or "", account.name)
    return Response(status_code=200)


def refs(call: Call) -> Any:
    repo = call.to_read()

    def of(kind: str, prefix: str) -> list[dict[str, str]]:
        return [
            {"name": name, "ref": prefix + name, "targetCommit": oid}
            for name, oid in call.store.refs(repo, kind).items()
        ]

    answer = {"branches": of("branch", "refs/heads/"), "tags": of("tag", "refs/tags/"), "converts": []}
    return {**answer, "pullRequests": []} if call.flag("include_prs") else answer


def commits(call: Call) -> Any:
    repo = call.to_read()
    return call.page(
        [
            {
                "id": commit.oid,
                "title": commit.title,
                "message": commit.message,
                "authors": [{"user": commit.author}],
                "date": commit.date,
            }
            for commit in call.store.history(repo, call.params["revision"])
        ]
    )


def tree(call: Call) -> Any:
    repo = call.to_read()
    history = call.store.history(repo, call.params["revision"])
    files = history[0].tree
    folder = call.params.get("path", "").strip("/")
    start = f"{folder}/" if folder else ""
    inside = [path for path in [*folders_of(files), *files] if path.startswith(start)]
    if folder and not inside:
        raise not_found(f"{folder} does not exist on {call.params['revision']}", "EntryNotFound")
    if not call.flag("recursive"):
        inside = [path for path in inside if "/" not in path[len(start) :]]
    return call.page([_described(path, history, call.flag("expand")) for path in sorted(inside)])


def paths_info(call: Call) -> Any:
    repo = call.to_read()
    history = call.store.history(repo, call.params["revision"])
    known = {*history[0].tree, *folders_of(history[0].tree)}
    fields = call.fields()
    expand = str(fields.get("expand", ["false"])[0]).lower() in ("1", "true")
    wanted = [path.strip("/") for path in fields.get("paths", [])]
    return [_described(path, history, expand) for path in wanted if path in known]


def _described(path: str, history: list[Commit], expand: bool) -> dict[str, Any]:
    """A file or a folder of the newest commit; `expand` adds the commit that last changed it."""
    entry = history[0].tree.get(path)
    answer: dict[str, Any] = {"path": path, "oid": _oid(path, history[0].tree), "size": entry.size if entry else 0}
    answer["type"] = "file" if entry else "directory"
    if entry and entry.sha256:
        answer["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": entry.pointer_size}
    if expand:
        last = history[0]
        for older in history[1:]:
            if _oid(path, older.tree) != answer["oid"]:
                break
            last = older
        answer["lastCommit"] = {"id": last.oid, "title": last.title, "date": last.date}
    return answer


def _oid(path: str, files: Tree) -> str:
    entry: Entry | None = files.get(path)
    return entry.oid if entry else folder_oid(files, path)
