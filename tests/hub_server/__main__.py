"""`make hub`: a Hub on this machine, to try a push before the real one sees anything."""

from __future__ import annotations

import argparse
from pathlib import Path

from hf_active_distill.serving.server import bind, run, url_of

from .accounts import Account, Accounts
from .app import build_app
from .calls import Hub
from .faults import FaultGate
from .store import HubStore


def main() -> None:
    parser = argparse.ArgumentParser(prog="hub_server", description=__doc__)
    parser.add_argument("--data_dir", type=Path, default=Path("hub-data"), help="where it keeps everything")
    parser.add_argument("--port", type=int, default=8090, help="0 takes a free one (default: 8090)")
    parser.add_argument("--user", default="me", help="whom every token stands for (default: me)")
    args = parser.parse_args()

    listener = bind("127.0.0.1", args.port)
    hub = Hub(HubStore(args.data_dir), Accounts(anyone=Account(args.user)))
    url = url_of(listener)

    def announce() -> None:
        print(f"the small Hub is at {url}", flush=True)
        print("In another terminal, before the command that pushes:", flush=True)
        print(f"  export HF_ENDPOINT={url} HF_TOKEN=hf_anything HF_HUB_DISABLE_XET=1", flush=True)

    try:
        run(FaultGate(build_app(hub), cut=lambda scope: None), listener, announce)
    finally:
        hub.store.close()


if __name__ == "__main__":
    main()
