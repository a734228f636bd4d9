"""The scripts that tests fork are processes of their own, and end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from forked import ForkedScript, run_together


def script(tmp_path, text):
    path = tmp_path / "script.py"
    path.write_text(text)
    return path


def test_it_has_imported_what_the_scripts_need(tmp_path):
    """In a process that starts the one to fork from: here another may have, for its own."""
    wanted = "import sys\nprint({'torch', 'transformers.trainer', 'tiny_run', 'label_run'} <= set(sys.modules))\n"
    code = (
        "import pathlib, sys\nfrom forked import ForkedScript\n"
        "if __name__ == '__main__': print(ForkedScript(pathlib.Path(sys.argv[1])).finish())\n"
    )
    starter = tmp_path / "starter.py"
    starter.write_text(f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n{code}")
    command = [sys.executable, str(starter), str(script(tmp_path, wanted))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.stdout == "(0, 'True\\n')\n", done.stderr


def test_it_has_its_own_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SET_FOR_THIS_TEST", "yes")
    path = script(
        tmp_path,
        "import os, sys\nprint(sys.argv[1:], os.getpid())\n"
        "print(os.environ['SET_FOR_THIS_TEST'], os.environ.get('RANK'), os.environ['OTHER'])\n"
        "sys.exit(7)\n",
    )
    started = ForkedScript(path, "a", "b c", env={"OTHER": "too"})
    code, output = started.finish()
    assert (code, output) == (7, f"['a', 'b c'] {started.pid}\nyes None too\n")
    assert started.pid != os.getpid()


def test_a_signal_ends_it_and_is_told(tmp_path):
    code, output = ForkedScript(
        script(tmp_path, "import os\nprint('here', flush=True)\nos.kill(os.getpid(), 9)\n")
    ).finish()
    assert (code, output) == (-signal.SIGKILL, "here\n")


def test_what_takes_too_long_is_ended_with_what_it_said(tmp_path):
    started = ForkedScript(script(tmp_path, "import time\nprint('waiting', flush=True)\ntime.sleep(60)\n"))
    with pytest.raises(TimeoutError, match="waiting"):
        started.finish(timeout=3)
    assert not started.process.is_alive()


def test_the_first_that_fails_ends_the_others(tmp_path):
    path = script(
        tmp_path,
        "import os, sys, time\n"
        "print('rank', os.environ['RANK'], 'of', os.environ['WORLD_SIZE'], flush=True)\n"
        "sys.exit('the reason') if os.environ['RANK'] == '1' else os.kill(os.getpid(), 15)\n",
    )
    code, output = run_together(2, path)
    assert code != 0 and "rank 0 of 2" in output and "the reason" in output
