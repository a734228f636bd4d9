"""Handlers: what files hold, and large file storage."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response

from .calls import Call, begin, refusal
from .errors import HubError, not_found


def resolve(call: Call) -> Response:
    """
    A file of a revision. One in large file storage is on another host, to which clients must not send their token: the
    answer names size and content, and where to get it.
    """
    repo = call.to_read()
    commit = call.store.revision(repo, call.params["revision"])
    path = call.params["path"]
    headers = {"X-Repo-Commit": commit.oid}
    entry = commit.tree.get(path)
    if entry is None:
        raise not_found("Entry not found", "EntryNotFound", headers=headers)
    name = quote(path.rsplit("/", 1)[-1])
    headers |= {"ETag": f'"{entry.etag}"', "Content-Disposition": f"inline; filename*=UTF-8''{name}"}
    if entry.sha256 is None:
        return FileResponse(call.store.path(entry), headers=headers, media_type="application/octet-stream")
    headers |= {"X-Linked-ETag": headers["ETag"], "X-Linked-Size": str(entry.size)}
    headers["Location"] = f"{call.storage}/large-files/{entry.sha256}?signature={call.hub.signature}"
    return Response(status_code=302, headers=headers)


def download(call: Call) -> Response:
    """A file in large file storage, for whoever has the link."""
    _check_signature(call)
    path = call.store.large.path(call.params["sha256"])
    return FileResponse(path, headers={"ETag": f'"{call.params["sha256"]}"'}, media_type="application/octet-stream")


def batch(call: Call) -> Any:
    """Where to upload large files; those that are there need no upload."""
    repo, _ = call.to_write()
    objects = []
    for wanted in call.json()["objects"]:
        answer = {"oid": wanted["oid"], "size": wanted["size"]}
        if call.store.has_large(repo, wanted["oid"]) is None:
            query = f"repo={quote(f'{repo.kind}/{repo.name}', safe='')}&signature={call.hub.signature}"
            answer["actions"] = {
                "upload": {"href": f"{call.storage}/large-files/{wanted['oid']}?{query}"},
                "verify": {"href": f"{call.link}.git/info/lfs/verify"},
            }
        objects.append(answer)
    return {"transfer": "basic", "objects": objects}


def verify(call: Call) -> Any:
    repo, _ = call.to_write()
    fields = call.json()
    if call.store.has_large(repo, fields["oid"]) != fields["size"]:
        raise not_found(f"Object {fields['oid']} of {fields['size']} bytes was not uploaded", "EntryNotFound")
    return {"success": True}


async def upload(request: Request) -> Response:
    """A large file, taken in pieces and kept once it is whole."""
    try:
        call = begin(request)
        _check_signature(call)
        sha256 = call.params["sha256"]
        kind, _, name = request.query_params["repo"].partition("/")
        repo = call.store.repo(kind, name)
        with call.store.large.upload(sha256) as incoming:
            async for piece in request.stream():
                incoming.write(piece)
            await run_in_threadpool(incoming.finish, sha256=sha256)
        call.store.note_large(repo, sha256, incoming.size)
    except HubError as error:
        return refusal(error)
    except ClientDisconnect:
        return Response(status_code=400)  # nobody is there to read it
    return Response(headers={"ETag": f'"{sha256}"'})


def _check_signature(call: Call) -> None:
    if call.request.query_params.get("signature") != call.hub.signature:
        raise HubError(403, "The link has expired")
