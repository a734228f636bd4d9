"""The command and the embedded server as processes: how they start, what they say, and that they always end."""

import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.error

import pytest
from helpers_models import tiny_model, tiny_tokenizer
from serving_helpers import call, post

from hf_active_distill.cli.main import main
from hf_active_distill.errors import EXIT_CONFIGURATION, ConfigurationError, TeacherConnectionError
from hf_active_distill.serving import EmbeddedServer
from hf_active_distill.serving.server import bind, url_of


SCRIPTED = ("--scripted", "arithmetic_skewed")
COMMAND = [sys.executable, "-m", "hf_active_distill.cli.main", "serve"]


def start(*argv):
    process = subprocess.Popen(
        [*COMMAND, *argv, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell has those that it starts in the background ignore Ctrl-C, and they pass that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    line = process.stdout.readline()
    return process, line.strip().split(" at ")[-1]


def gone(url, seconds=15):
    """Waits until nothing listens any more."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            call(f"{url}/health", timeout=5)
        except urllib.error.URLError:
            return True
        except ConnectionError:
            pass  # it ended in the middle of its answer
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_says_where_it_is_and_ends_when_told(number):
    process, url = start(*SCRIPTED)
    assert call(f"{url}/health")[0] == 200
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert out == "" and "Traceback" not in err
    assert process.returncode == {signal.SIGTERM: -signal.SIGTERM, signal.SIGINT: 130}[number]


def test_the_ready_file_holds_the_url(tmp_path):
    process, url = start(*SCRIPTED, "--ready-file", str(tmp_path / "ready"))
    process.stdout.close()
    try:
        assert (tmp_path / "ready").read_text() == url
    finally:
        process.terminate()
        process.wait(10)
        process.stderr.close()


def test_a_scripted_server_starts_without_torch():
    code = """
        import sys
        from hf_active_distill.cli.main import build_parser
        from hf_active_distill.cli.serve import _load_backend
        import hf_active_distill.serving.app, hf_active_distill.serving.server
        args = build_parser(["serve"]).parse_args(["serve", "--scripted", "arithmetic_skewed"])
        _load_backend(args)
        print(sorted({"torch", "transformers", "datasets", "huggingface_hub"} & set(sys.modules)))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_the_embedded_server_answers_inside_the_block_and_is_gone_after():
    with EmbeddedServer(*SCRIPTED, api_key="sesame") as server:
        body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 50}
        assert post(f"{server.url}/v1/chat/completions", body, headers={"Authorization": "Bearer sesame"})[0] == 200
        assert call(f"{server.url}/v1/chat/completions", body)[0] == 401
        pid = server.pid
        with pytest.raises(ConfigurationError, match="runs already"):
            server.start()
    assert gone(server.url) and server.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_model_by_path(tmp_path):
    tiny_model("llama").save_pretrained(tmp_path)
    tiny_tokenizer(chat=True).save_pretrained(tmp_path)
    with EmbeddedServer(str(tmp_path), "--max-total-tokens", "100", threads=1) as server:
        status, body = post(f"{server.url}/generate", {"inputs": "There", "parameters": {"max_new_tokens": 2}})
        assert status == 200 and set(body) == {"generated_text"}
        assert b'"max_total_tokens":100' in call(f"{server.url}/info")[2]


def test_it_is_gone_after_an_exception():
    with pytest.raises(RuntimeError, match="mine"), EmbeddedServer(*SCRIPTED) as server:
        raise RuntimeError("mine")
    assert gone(server.url)


PARENT = """
    import os, signal, sys, time
    from hf_active_distill.serving import EmbeddedServer
    server = EmbeddedServer("--scripted", "arithmetic_skewed")
    {start}
    print(server.url, flush=True)
    {end}
"""


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ("server.start()", "os.kill(os.getpid(), signal.SIGKILL)"),
        ("server.start()", "sys.exit(3)"),
        ("server.start()", "os.kill(os.getpid(), signal.SIGINT); time.sleep(30)"),
        # A fork of the parent holds the other end of the pipe and lives on.
        ("server.start(); child = os.fork(); child or (time.sleep(20), os._exit(0))", "os.kill(os.getpid(), 9)"),
    ],
)
def test_it_ends_with_its_parent_however_that_ends(begin, end, tmp_path):
    code = textwrap.dedent(PARENT).format(start=begin, end=end)
    output = tmp_path / "out"
    with open(output, "w") as out:
        parent = subprocess.Popen([sys.executable, "-c", code], stdout=out, stderr=subprocess.DEVNULL)
        parent.wait(60)
    assert gone(output.read_text().split()[0])


def test_a_child_that_dies_shows_why(tmp_path):
    with pytest.raises(TeacherConnectionError, match=f"ended with code {EXIT_CONFIGURATION}") as caught:
        EmbeddedServer(str(tmp_path / "nothing")).start()
    assert "cannot load" in str(caught.value) and "hf-active-distill serve" in str(caught.value)


def test_a_child_that_is_too_slow_is_ended():
    server = EmbeddedServer(*SCRIPTED, startup_timeout=0.0)
    with pytest.raises(TeacherConnectionError, match="not ready after 0 s"):
        server.start()
    assert server.pid is None


def test_a_taken_port_names_the_cure(capsys):
    listener = bind("127.0.0.1", 0)
    listener.listen()
    port = url_of(listener).rsplit(":", 1)[1]
    try:
        assert main(["serve", *SCRIPTED, "--port", port]) == EXIT_CONFIGURATION
    finally:
        listener.close()
    assert "take another --port, 0 for a free one" in capsys.readouterr().err


def test_a_model_or_a_script_is_needed(capsys):
    for argv in (["serve"], ["serve", "path", *SCRIPTED]):
        with pytest.raises(SystemExit):
            main(argv)
    assert "--scripted" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["{", "[1]"])
def test_template_options_must_be_an_object(value, capsys):
    with pytest.raises(SystemExit):
        main(["serve", "path", "--chat-template-kwargs", value])
    assert "is not" in capsys.readouterr().err
