"""What a push uploads, against a small Hub on a loopback socket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hf_active_distill import ActiveDistillationConfig
from hf_active_distill.errors import ConfigurationError
from hf_active_distill.trainer.pushing import travelling_files


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from counting_teacher import rule
from tiny_run import build

args = {{"num_rounds": 1, "push_to_hub": True, "hub_model_id": "me/student", "hub_token": "hf_abc"}}
trainer = build({folder!r}, lambda messages, params: rule(messages), {{"args": args}})
trainer.train()
trainer.push_to_hub()
"""


class SmallHub:
    """Answers what `upload_folder` asks, takes every file in the commit itself, and keeps the commits."""

    def __init__(self):
        self.commits: list[list[dict]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length) if length else self._chunks()
                if "/preupload/" in self.path:
                    files = [
                        {**file, "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]
                    ]
                    self._send({"files": files})
                elif "/commit/" in self.path:
                    hub.commits.append([json.loads(line) for line in body.decode().splitlines() if line])
                    self._send({"commitUrl": hub.url + "/me/student/commit/1", "commitOid": "1" * 40, "success": True})
                elif self.path == "/api/repos/create":
                    self._send({"url": hub.url + "/me/student", "name": "me/student"})
                elif self.path == "/api/validate-yaml":
                    self._send({"errors": [], "warnings": []})
                else:
                    self._send({"error": "not found"}, 404)

            def do_GET(self):
                if "/api/whoami" in self.path:
                    self._send({"name": "me", "type": "user", "orgs": []})
                else:
                    self._send({"error": "not found"}, 404)

            def _chunks(self) -> bytes:
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

            def _send(self, payload, status=200):
                data = json.dumps(payload).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc_info):
        self._server.shutdown()
        self._server.server_close()


@pytest.mark.slow
def test_a_push_uploads_the_student_and_nothing_private(tmp_path):
    with SmallHub() as hub:
        script = SCRIPT.format(tests=str(Path(__file__).parents[1]), folder=str(tmp_path))
        env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr[-3000:]
    [commit] = hub.commits
    names = {line["value"]["path"] for line in commit if line["key"] == "file"}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md", "metrics.jsonl"} <= names
    assert not {name for name in names if name.endswith((".bin", ".pt", ".pth", ".sqlite")) or "/" in name}
    assert "first_weights.safetensors" not in names


def test_only_files_with_a_reason_travel(tmp_path):
    for name in ("model.safetensors", "first_weights.safetensors", "training_args.bin", "journal.sqlite", "notes.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "rounds").mkdir()
    assert travelling_files(tmp_path) == ["model.safetensors"]


def test_pushing_in_the_middle_of_a_run_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="journal"):
        ActiveDistillationConfig(output_dir=str(tmp_path), push_to_hub=True, hub_strategy="every_save")
