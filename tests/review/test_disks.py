"""Disks that are full or not to be written."""

from __future__ import annotations

import errno
import os

import pytest
from counting_teacher import rule
from tiny_run import build

from hf_active_distill.asking import storage
from hf_active_distill.errors import CheckpointError, JournalError


def teacher(messages, params):
    return rule(messages)


SHORT = {"args": {"num_rounds": 2, "num_train_epochs": 1}}


def test_a_disk_that_is_full_when_a_round_is_written_and_has_room_again(tmp_path, monkeypatch):
    calls = []

    def counted(messages, params):
        calls.append(messages)
        return rule(messages)

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class Filling:
        """Fills the disk when the first round has been asked."""

        def __call__(self, record):
            monkeypatch.setattr(os, "fsync", full)
            return write(record)

    trainer = build(str(tmp_path), counted, SHORT)
    write = trainer.book.store.write
    monkeypatch.setattr(trainer.book.store, "write", Filling())
    with pytest.raises(CheckpointError, match="No space left.*resume_from_checkpoint"):
        trainer.train()
    monkeypatch.undo()
    paid = len(calls)
    assert not trainer.book.store.has(0)
    again = build(str(tmp_path), counted, {"args": {**SHORT["args"], "num_rounds": 1}})
    again.train(resume_from_checkpoint=True)
    assert again.stop_reason == "rounds" and len(calls) == paid


def test_a_journal_where_no_folder_can_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    journal = {"args": {**SHORT["args"], "journal_path": str(tmp_path / "file" / "journal.sqlite")}}
    with pytest.raises(JournalError, match="where you may write"):
        build(str(tmp_path / "out"), teacher, journal).train()


def test_an_output_folder_on_a_network_names_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "network_file_system", lambda path: "nfs4")
    with pytest.raises(JournalError, match="`journal_path`"):
        build(str(tmp_path), teacher, SHORT).train()
