"""
A small Hub on a loopback socket, for tests and for trying a push without the real one.

It speaks the part of the Hub's HTTP protocol that `huggingface_hub`, `datasets` and `transformers` use to create,
fill, tag and read repositories, and keeps everything in one folder. Reach it with `HF_ENDPOINT`;
`HF_HUB_DISABLE_XET=1` is needed, as it has no Xet storage. `make hub` starts it by hand.
"""

from .faults import Fault, SeenRequest
from .server import HubProcess, HubServer
from .store import HubStore


__all__ = ["Fault", "HubProcess", "HubServer", "HubStore", "SeenRequest"]
