"""Handlers: accounts, repositories, and what is known about them."""

from __future__ import annotations

from typing import Any

from .accounts import may_write
from .calls import Call
from .cards import check, metadata
from .errors import HubError
from .store import Commit, Repo


def whoami(call: Call) -> Any:
    if call.account is None:
        raise HubError(401, "Invalid username or password.")
    return {
        "type": "user",
        "id": call.account.name,
        "name": call.account.name,
        "fullname": call.account.name,
        "orgs": [{"type": "org", "id": org, "name": org, "fullname": org} for org in call.account.orgs],
        "auth": {"type": "access_token", "accessToken": {"displayName": "token", "role": call.account.role}},
    }


def create(call: Call) -> Any:
    kind, name, fields = _named(call)
    account = may_write(call.account, name)
    private = _privacy(fields)
    if private is None:
        private = name.split("/")[0] in call.hub.accounts.private_by_default
    link = f"{call.endpoint}/{'' if kind == 'models' else kind + '/'}{name}"
    try:
        repo = call.store.create(kind, name, private=private, author=account.name)
    except HubError as error:
        raise HubError(409, error.message, body={"error": error.message, "url": link}) from error
    return {"url": link, "name": name, "id": str(repo.id)}


def delete(call: Call) -> Any:
    kind, name, _ = _named(call)
    call.params.update(kind=kind, namespace=name.split("/")[0], name=name.split("/")[1])
    repo, _account = call.to_write()
    call.store.delete(repo)
    return "OK"


def settings(call: Call) -> Any:
    repo, _ = call.to_write()
    private = _privacy(call.json())
    if private is not None:
        call.store.set_private(repo, private)
    return {"private": call.store.repo(repo.kind, repo.name).private}


def info(call: Call) -> Any:
    repo = call.to_read()
    return describe(call, repo, call.store.revision(repo, call.params.get("revision", "main")))


def listing(call: Call) -> Any:
    """Repositories that whoever asks may see, by `author` and `search`."""
    author, wanted = (call.request.query_params.get(name) for name in ("author", "search"))
    seen = [
        repo
        for repo in call.store.repos()
        if repo.kind == call.kind
        and (not repo.private or (call.account is not None and call.account.owns(repo.name.split("/")[0])))
        and author in (None, repo.name.split("/")[0])
        and (wanted or "") in repo.name
    ]
    return call.page([describe(call, repo, call.store.revision(repo, "main")) for repo in seen])


def validate_yaml(call: Call) -> Any:
    fields = call.json()
    errors, warnings = check(fields["content"], fields.get("repoType", "model"))
    answer = {
        "errors": [{"message": message} for message in errors],
        "warnings": [{"message": message} for message in warnings],
    }
    if errors:
        raise HubError(400, "; ".join(errors).replace("\n", " "), body=answer)
    return answer


def describe(call: Call, repo: Repo, commit: Commit) -> dict[str, Any]:
    """A repository at a revision."""
    siblings = []
    for path, entry in sorted(commit.tree.items()):
        sibling: dict[str, Any] = {"rfilename": path}
        if call.flag("blobs"):
            sibling |= {"size": entry.size, "blobId": entry.oid}
            if entry.sha256:
                sibling["lfs"] = {"sha256": entry.sha256, "size": entry.size, "pointerSize": entry.pointer_size}
        siblings.append(sibling)
    readme = commit.tree.get("README.md")
    card = metadata(call.store.path(readme).read_text(encoding="utf-8")) if readme else None
    return {
        "_id": f"{repo.id:024x}",
        "id": repo.name,
        **({"modelId": repo.name} if repo.kind == "models" else {}),
        "author": repo.name.split("/")[0],
        "sha": commit.oid,
        "createdAt": repo.created,
        "lastModified": commit.date,
        "private": repo.private,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": (card or {}).get("tags") or [],
        "cardData": card or {},
        "siblings": siblings,
    }


def _named(call: Call) -> tuple[str, str, dict[str, Any]]:
    """The kind and the full name of the repository that a body names."""
    fields = call.json()
    owner = fields.get("organization") or (call.account.name if call.account else "")
    if not fields.get("name"):
        raise HubError(400, '"name" is required')
    return f"{fields.get('type') or 'model'}s", f"{owner}/{fields['name']}", fields


def _privacy(fields: dict[str, Any]) -> bool | None:
    """What a body says of it: older clients send `private`, newer ones `visibility`."""
    if fields.get("visibility") is not None:
        return fields["visibility"] == "private"
    return fields.get("private")
