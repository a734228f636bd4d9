"""`hf-active-distill serve`: a teacher server for development, speaking TGI's protocol."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from ..serving.embedded import API_KEY_VARIABLE


if TYPE_CHECKING:
    from ..serving.backend import Backend


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Registers the subcommand."""
    parser = subparsers.add_parser(
        "serve",
        help="serve a model, or a scripted teacher, over TGI's protocol",
        description="A teacher server for development: TGI's HTTP protocol for any causal language model.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("model", nargs="?", help="path or Hub id of a causal language model")
    source.add_argument("--scripted", metavar="NAME", help="a teacher written in code, for the built-in task NAME")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one (default: 8080)")
    parser.add_argument("--api-key", help=f"bearer token that requests must carry (default: ${API_KEY_VARIABLE})")
    parser.add_argument("--ready-file", metavar="PATH", help="file that gets the URL once requests are taken")
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    _add_limits(parser)
    _add_model_options(parser)
    scripted = parser.add_argument_group("scripted teacher")
    scripted.add_argument("--error-rate", type=float, default=0.0, help="share of answers with a mistake (default: 0)")
    scripted.add_argument("--seed", type=int, default=0, help="seed of the mistakes (default: 0)")
    return parser


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("limits")
    group.add_argument("--max-concurrent-requests", type=int, default=128, help="one more is 429 (default: 128)")
    group.add_argument("--max-best-of", type=int, default=2, help="(default: 2)")
    group.add_argument("--max-stop-sequences", type=int, default=4, help="(default: 4)")
    group.add_argument("--max-top-n-tokens", type=int, default=5, help="(default: 5)")
    group.add_argument("--max-client-batch-size", type=int, default=4, help="(default: 4)")


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument("--revision", help="revision of a model on the Hub")
    group.add_argument("--dtype", default="auto", help="torch dtype of the weights (default: as saved)")
    group.add_argument("--device", help="torch device (default: an accelerator where there is one)")
    group.add_argument("--threads", type=int, help="CPU threads of the model (default: torch's own)")
    group.add_argument("--max-batch-size", type=int, default=64, help="sequences written together (default: 64)")
    group.add_argument(
        "--max-total-tokens", type=int, help="prompt and answer together (default: the model's context)"
    )
    group.add_argument("--max-input-tokens", type=int, help="prompt alone (default: one less than the total)")
    group.add_argument(
        "--chat-template-kwargs", type=_json_object, default={}, metavar="JSON", help="for the template"
    )


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f'{text!r} is not a JSON object such as {{"enable_thinking": false}}')
    return value


def run(args: argparse.Namespace) -> int:
    """Serves until it is told to end."""
    try:
        from ..serving.server import bind, end_with_parent, run, url_of
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise ConfigurationError(f"{error.name} is missing: pip install 'hf-active-distill[serve]'") from error
    from ..serving.app import build_app
    from ..serving.validation import ServerOptions

    if args.parent is not None:
        end_with_parent(args.parent)
    options = ServerOptions(
        max_concurrent_requests=args.max_concurrent_requests,
        max_best_of=args.max_best_of,
        max_stop_sequences=args.max_stop_sequences,
        max_top_n_tokens=args.max_top_n_tokens,
        max_client_batch_size=args.max_client_batch_size,
        api_key=args.api_key or os.environ.get(API_KEY_VARIABLE) or None,
    )
    listener = bind(args.host, args.port)
    backend = _load_backend(args)
    url = url_of(listener)

    def announce() -> None:
        if args.ready_file:
            _write_whole(args.ready_file, url)
        print(f"teacher {backend.info().model} at {url}", flush=True)

    try:
        run(build_app(backend, options), listener, announce)
    finally:
        backend.close()
    return 0


def _load_backend(args: argparse.Namespace) -> Backend:
    if args.scripted is not None:
        from ..serving.scripted import scripted_backend

        return scripted_backend(args.scripted, error_rate=args.error_rate, seed=args.seed)
    from ..engine.continuous import TransformersBackend

    print(f"loading {args.model}", file=sys.stderr, flush=True)
    return TransformersBackend.load(
        args.model,
        revision=args.revision,
        dtype=args.dtype,
        device=args.device,
        threads=args.threads,
        max_batch_size=args.max_batch_size,
        max_total_tokens=args.max_total_tokens,
        max_input_tokens=args.max_input_tokens,
        chat_template_kwargs=args.chat_template_kwargs,
    )


def _write_whole(path: str, text: str) -> None:
    """Writes a file that appears complete or not at all; a pipe is written as it is."""
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "w", encoding="utf-8") as pipe:
            pipe.write(text)
        return
    with open(f"{path}.part", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(f"{path}.part", path)
