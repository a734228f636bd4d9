"""
A teacher on a loopback socket that speaks TGI's protocol, answers by a fixed rule, and remembers every request.

`before_answer` is called with the number of the request (from 1) before it is answered: tests kill or stop a client
there, or hold the answer back. `status` other than 200 refuses every question. `model` is what it calls itself, and
`answer` makes a text of the body of a question.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def rule(messages: list[dict[str, str]]) -> str:
    """Accepts about half of the steps, by a hash of what is asked; sums the numbers of the question otherwise."""
    last = messages[-1]["content"]
    question = re.search(r"Problem:\n(.*)", messages[0]["content"])
    numbers = [int(n) for n in re.findall(r"\d+", question.group(1) if question else "0")]
    answer = f"add {' and '.join(map(str, numbers))}\n#### {sum(numbers)}"
    if "Yes" in messages[0]["content"]:
        accept = hashlib.sha256(last.encode()).digest()[0] % 2
        if "All steps of the student stand" in last:
            return f"#### {sum(numbers)}"
        return f"Yes\nStep: in other words, step {len(messages)}" if accept else f"No\n{answer}"
    return answer


class CountingTeacher:
    """A context manager: `url` is valid inside it. `requests` holds the canonical body of every request, in order."""

    def __init__(
        self,
        before_answer: Callable[[int], None] = lambda number: None,
        status: int = 200,
        model: str = "counting",
        answer: Callable[[dict], str] = lambda body: rule(body["messages"]),
    ):
        self.status = status
        self.model = model
        self.requests: list[str] = []
        self.before_answer = before_answer
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                if self.path == "/info":
                    self._send(
                        {
                            "model_id": outer.model,
                            "model_sha": "1",
                            "max_input_tokens": 100000,
                            "max_total_tokens": 200000,
                            "max_concurrent_requests": 64,
                            "version": "3.0.0",
                        }
                    )
                elif self.path == "/health":
                    self._send({})
                else:
                    self._send({"error": "not found", "error_type": "validation"}, 404)

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path != "/v1/chat/completions":
                    self._send({"error": "not found", "error_type": "validation"}, 404)
                    return
                with outer._lock:
                    outer.requests.append(json.dumps(body, sort_keys=True))
                    number = len(outer.requests)
                outer.before_answer(number)
                if outer.status != 200:
                    self._send({"error": "refused", "error_type": "validation"}, outer.status)
                    return
                text = answer(body)
                usage = {
                    "prompt_tokens": sum(len(m["content"]) for m in body["messages"]) // 4,
                    "completion_tokens": len(text) // 4 + 1,
                }
                self._send(
                    {
                        "id": "",
                        "object": "chat.completion",
                        "created": 0,
                        "model": outer.model,
                        "system_fingerprint": "3.0.0",
                        "choices": [
                            {
                                "index": 0,
                                "finish_reason": "stop",
                                "logprobs": None,
                                "message": {"role": "assistant", "content": text},
                            }
                        ],
                        "usage": {**usage, "total_tokens": sum(usage.values())},
                    }
                )

            def _send(self, payload, status=200):
                data = json.dumps(payload).encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:
                    self.close_connection = True  # the client was killed: nobody is left to answer

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> CountingTeacher:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc_info) -> None:
        self._server.shutdown()
        self._server.server_close()
