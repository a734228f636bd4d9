"""What a file, a folder or a disk can do to a journal: it says so and harms nothing."""

import os
import sqlite3
import tempfile
from pathlib import Path

import pytest
from asking_helpers import BOUND, call, record, reply

from hf_active_distill.asking import Journal, JournalReader, schema, storage
from hf_active_distill.errors import ConfigurationError, JournalError
from hf_active_distill.records import Usage


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "folder" / "journal.sqlite"


# --- files that are no journal, or not of this version


def unchanged_by(path: Path, match: str) -> None:
    """Opening `path` fails both ways with this message and leaves every byte as it was."""
    before = path.read_bytes()
    for opening in (Journal, JournalReader):
        with pytest.raises(JournalError, match=match):
            opening(path)
        assert path.read_bytes() == before
        assert not path.with_name(path.name + "-wal").exists()


def test_a_file_of_another_kind_is_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("dear diary\n" * 100)
    unchanged_by(path, "left untouched")


def test_a_database_of_another_program_is_left_alone(tmp_path):
    path = tmp_path / "other.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE birds (name)")
    db.commit()
    db.close()
    unchanged_by(path, "another program")


def test_a_newer_journal_is_left_alone(path):
    Journal(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = DELETE")
    db.execute("PRAGMA user_version = 99")
    db.commit()
    db.close()
    unchanged_by(path, "newer version.*Upgrade")


def test_a_damaged_journal_is_left_alone(path):
    with Journal(path) as journal:
        for index in range(60):
            record(journal, f"q{index} " + "x" * 2000)
    content = bytearray(path.read_bytes())
    content[4096 * 5 : 4096 * 20] = os.urandom(4096 * 15)
    path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(JournalError, match="damaged"):
        Journal(path)
    assert path.read_bytes() == before


def test_a_truncated_journal_is_left_alone(path):
    with Journal(path) as journal:
        for index in range(60):
            record(journal, f"q{index} " + "x" * 2000)
    path.write_bytes(path.read_bytes()[: 4096 * 7 + 100])
    before = path.read_bytes()
    with pytest.raises(JournalError, match="damaged"):
        Journal(path)
    assert path.read_bytes() == before


def test_an_older_journal_is_brought_up_to_date(path, monkeypatch):
    with Journal(path) as journal:
        record(journal, "old", run="r")

    def add_note(db: sqlite3.Connection) -> None:
        db.execute("ALTER TABLE calls ADD COLUMN note TEXT")
        db.execute("UPDATE calls SET note = 'migrated'")

    monkeypatch.setattr(schema, "MIGRATIONS", [*schema.MIGRATIONS, add_note])
    with pytest.raises(JournalError, match="older format 1"):
        JournalReader(path)
    with Journal(path) as journal:
        assert journal._db.execute("SELECT note FROM calls").fetchall() == [("migrated",)]
        assert journal.lookup(call("old").key) == reply("a")
        assert journal.spent("r")[0] == Usage(1, 10, 5)
    JournalReader(path).close()


def test_a_migration_that_fails_changes_nothing(path, monkeypatch):
    with Journal(path) as journal:
        record(journal, "old")

    def fail(db: sqlite3.Connection) -> None:
        db.execute("ALTER TABLE calls ADD COLUMN note TEXT")
        raise sqlite3.OperationalError("no")

    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", [*schema.MIGRATIONS, fail])
        with pytest.raises(JournalError):
            Journal(path)
    with Journal(path) as journal:
        assert journal.lookup(call("old").key) == reply("a")


def test_a_missing_journal_cannot_be_read(path):
    with pytest.raises(JournalError, match="no journal at"):
        JournalReader(path)
    assert not path.exists()


# --- disks and folders


def test_a_full_disk_stops_the_journal_and_keeps_what_was_committed(path):
    def fill(journal: Journal) -> int:
        for number in range(1000):
            call_id = journal.sending(call(f"{number}" + "x" * 5000), BOUND)
            journal.answered(call_id, reply("a"))
        return number

    with Journal(path) as journal:
        (pages,) = journal._db.execute("PRAGMA page_count").fetchone()
        journal._db.execute(f"PRAGMA max_page_count = {pages + 20}")  # what SQLite says then is what ENOSPC makes
        with pytest.raises(JournalError, match="disk is full. Free some space"):
            fill(journal)
        with pytest.raises(JournalError, match="disk is full"):
            journal.sending(call("later"), BOUND)
    with JournalReader(path) as reader:
        assert reader.integrity() == "ok"
        assert reader.states().get("answered", 0) >= 5


def test_a_folder_that_cannot_be_written():
    # In a child without privileges: for root every folder can be written.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                if os.getuid() == 0:
                    os.setgid(65534)
                    os.setuid(65534)
                for path in (Path(folder) / "journal.sqlite", Path(folder) / "new" / "journal.sqlite"):
                    try:
                        Journal(path)
                    except JournalError as error:
                        code = 0 if "where you may write" in str(error) else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        os.chmod(folder, 0o755)


def test_a_journal_is_readable_in_a_folder_that_is_not_writable():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.sqlite"
        with Journal(path) as journal:
            record(journal)
        os.chmod(path, 0o444)
        os.chmod(folder, 0o555)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                if os.getuid() == 0:
                    os.setgid(65534)
                    os.setuid(65534)
                with JournalReader(path) as reader:
                    code = 0 if reader.states() == {"answered": 1} else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        os.chmod(folder, 0o755)


MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb1 /home/ann/local\\040disk xfs rw 0 0
//nas/share /mnt/nas cifs rw 0 0
host:dir /mnt/ssh fuse.sshfs rw 0 0
tmpfs /mnt/nas/tmp tmpfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "network"),
    [
        ("/tmp/journal.sqlite", None),
        ("/home/ann/journal.sqlite", "nfs4"),
        ("/home/ann/local disk/journal.sqlite", None),
        ("/homestead/journal.sqlite", None),
        ("/mnt/nas/a/b/journal.sqlite", "cifs"),
        ("/mnt/nas/tmp/journal.sqlite", None),
        ("/mnt/ssh/journal.sqlite", "fuse.sshfs"),
    ],
)
def test_network_file_systems_are_told_from_local_ones(tmp_path, path, network):
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    assert storage.network_file_system(Path(path), mounts) == network
    assert storage.network_file_system(Path(path), tmp_path / "none") is None


def test_a_network_file_system_is_refused_or_gone_along_with(path, monkeypatch, caplog):
    monkeypatch.setattr(storage, "network_file_system", lambda path: "nfs4")
    with pytest.raises(JournalError, match="network file system .nfs4.*local disk.*on_network='delete'"):
        Journal(path)
    assert not path.parent.exists()
    with Journal(path, on_network="delete") as journal:
        assert journal._db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert journal._db.execute("PRAGMA synchronous").fetchone() == (2,)
        record(journal, "q")
        with JournalReader(path) as reader:
            assert reader.states() == {"answered": 1}
    assert "journal_mode=DELETE" in caplog.text


def test_options_are_checked(path):
    with pytest.raises(ConfigurationError, match="on_network"):
        Journal(path, on_network="maybe")
