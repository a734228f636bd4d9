"""The scripts that tests fork are processes of their own, and end."""

import os
import signal

import pytest
from forked import ForkedScript, run_together


def script(tmp_path, text):
    path = tmp_path / "script.py"
    path.write_text(text)
    return path


def test_it_has_imported_what_the_scripts_need_and_has_its_own_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SET_FOR_THIS_TEST", "yes")
    path = script(
        tmp_path,
        "import os, sys\n"
        "print({'torch', 'transformers.trainer', 'tiny_run'} <= set(sys.modules), sys.argv[1:], os.getpid())\n"
        "print(os.environ['SET_FOR_THIS_TEST'], os.environ.get('RANK'), os.environ['OTHER'])\n"
        "sys.exit(7)\n",
    )
    started = ForkedScript(path, "a", "b c", env={"OTHER": "too"})
    code, output = started.finish()
    assert (code, output) == (7, f"True ['a', 'b c'] {started.pid}\nyes None too\n")
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
