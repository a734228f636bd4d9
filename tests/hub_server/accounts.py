"""Who asks, and what they may do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .errors import HubError, not_found
from .store import HubStore, Repo


@dataclass(frozen=True)
class Account:
    """
    Whom a token stands for.

    Args:
        name (`str`): The user.
        orgs (`tuple[str, ...]`): Organisations in which the user may write.
        role (`str`): `"write"` or `"read"`.
    """

    name: str
    orgs: tuple[str, ...] = ()
    role: str = "write"

    def owns(self, namespace: str) -> bool:
        return namespace == self.name or namespace in self.orgs


@dataclass
class Accounts:
    """
    The server's users.

    Args:
        by_token (`Mapping[str, Account]`): Users by their token.
        anyone (`Account` or `None`): Whom a token that is not in the list stands for; `None` refuses it.
        private_by_default (`set[str]`): Namespaces whose new repositories are private when nothing is said.
    """

    by_token: Mapping[str, Account] = field(default_factory=dict)
    anyone: Account | None = None
    private_by_default: set[str] = field(default_factory=set)

    def of(self, authorization: str | None) -> Account | None:
        """Who sent this `Authorization` header, `None` for nobody."""
        if authorization is None:
            return None
        account = self.by_token.get(authorization.removeprefix("Bearer "), self.anyone)
        if account is None:
            raise HubError(401, "Invalid credentials in Authorization header")
        return account


def readable(store: HubStore, account: Account | None, kind: str, name: str) -> Repo:
    """The repository, where the account may see it. One that may not be seen looks like one that is not there."""
    repo = store.find(kind, name)
    if repo is None or (repo.private and (account is None or not account.owns(name.split("/")[0]))):
        if account is None:
            raise HubError(401, "Invalid username or password.", "RepoNotFound")
        raise not_found("Repository not found", "RepoNotFound")
    return repo


def writable(store: HubStore, account: Account | None, kind: str, name: str) -> tuple[Repo, Account]:
    """The repository, where the account may write to it."""
    repo = readable(store, account, kind, name)
    return repo, may_write(account, name)


def may_write(account: Account | None, name: str) -> Account:
    """
    Raises:
        [`HubError`]: 401 for nobody, 403 for somebody else's namespace or a token that only reads.
    """
    if account is None:
        raise HubError(401, "Invalid username or password.")
    if not account.owns(name.split("/")[0]):
        raise HubError(403, f'You don\'t have the rights to write under the namespace "{name.split("/")[0]}"')
    if account.role != "write":
        raise HubError(403, "Forbidden: this token has read access only")
    return account
