"""What comes from a node as an archive: taken whole or not at all, and only beneath its own folder."""

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from broker.engines import docker_archive
from broker.engines.docker_archive import Entry, is_whole, length, packed, unpack
from broker.settings import NodeSettings


def archived(path: Path, **files: bytes | None) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name.replace("__", "/").replace("UP", ".."))
            if data is None:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            member.size = len(data or b"")
            tar.addfile(member, io.BytesIO(data or b""))
    with path.open("rb+") as file:  # a daemon ends it with two empty blocks and nothing else
        whole = file.read().rstrip(b"\0")
        file.truncate(-(-len(whole) // 512) * 512 + 1024)
    return path


async def test_what_is_packed_is_what_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 1000)
    (tmp_path / "empty").touch()
    entries = [Entry("7", None, 0o700, 5, 6), Entry("7/a", tmp_path / "a", 0o600), Entry("7/e", tmp_path / "empty", 0)]
    data = b"".join([piece async for piece in packed(entries)])
    assert len(data) == length(entries)
    archive = tmp_path / "archive"
    archive.write_bytes(data)
    assert is_whole(archive)
    assert unpack(archive, tmp_path / "into", {}) == ["a", "e"]
    assert (tmp_path / "into" / "a").read_bytes() == b"x" * 1000


def test_a_line_that_breaks_off_is_seen_wherever_it_does(tmp_path: Path) -> None:
    whole = archived(tmp_path / "whole", d__a=b"1" * 600, d__b=b"2" * 512).read_bytes()
    cut = tmp_path / "cut"
    for end in range(0, len(whole), 512):
        cut.write_bytes(whole[:end])
        assert not is_whole(cut), end


def test_nothing_lands_elsewhere_and_nothing_but_plain_files_is_taken(tmp_path: Path) -> None:
    archive = archived(
        tmp_path / "archive", d__good=b"1", d__UP__UP__bad=b"2", __bad=b"3", d__link=None, d__output=b"4", d=b"5"
    )
    assert unpack(archive, tmp_path / "into" / "deep", {}) == ["good", "output"]
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {
        *("archive", "into/deep/good", "into/deep/output")
    }


def test_a_good_file_stays_when_what_comes_is_not_what_was_said(tmp_path: Path) -> None:
    good = tmp_path / "last"
    good.write_bytes(b"good")
    archive = archived(tmp_path / "archive", d__last=b"bad", d__part=b"x")
    assert unpack(archive, tmp_path, {"last": hashlib.sha256(b"good").hexdigest()}, but="part") == []
    assert good.read_bytes() == b"good"
    assert not (tmp_path / "part").exists()


def test_a_file_with_two_names_is_taken_under_both_and_the_second_must_be_good_too(tmp_path: Path) -> None:
    archive = archived(tmp_path / "archive", d__best=b"weights")
    with tarfile.open(archive, "a") as tar:
        for name, of in (("d/epoch-1", "d/best"), ("d/epoch-2", "d/best"), ("d/e", "/etc/passwd"), ("d/f", "d/f")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.LNKTYPE, of
            tar.addfile(member)
    known = {"epoch-1": hashlib.sha256(b"weights").hexdigest(), "epoch-2": hashlib.sha256(b"others").hexdigest()}
    assert unpack(archive, tmp_path / "into", known) == ["best", "epoch-1"]
    assert (tmp_path / "into" / "epoch-1").read_bytes() == b"weights"


def test_a_file_where_a_folder_is_harms_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    archive = archived(tmp_path / "archive", d__checkpoints=b"sly", d__result=b"1")
    assert unpack(archive, tmp_path, {}) == ["result"]
    assert (tmp_path / "checkpoints").is_dir()


def test_a_full_disk_takes_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_archive, "SPARE", 1 << 60)
    with pytest.raises(OSError, match="no room for last"):
        unpack(archived(tmp_path / "archive", d__last=b"new"), tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


@pytest.mark.parametrize(
    ("node", "shared"),
    [
        ({"engine": "local"}, True),
        ({"url": "unix:///run/docker.sock"}, True),
        ({"url": "unix:///run/docker.sock", "shared": False}, False),
        ({"url": "tcp://127.0.0.1:2376", "tls": "/tls"}, True),
        ({"url": "tcp://[::1]:2376", "tls": "/tls"}, True),
        ({"url": "tcp://far:2376", "tls": "/tls"}, False),
        ({"url": "tcp://far:2376", "tls": "/tls", "path_map": {"/mnt": "/data"}}, False),
        ({"url": "tcp://far:2376", "tls": "/tls", "path_map": {"/broker": "/wyolo"}}, True),
        ({"url": "tcp://far:2376", "tls": "/tls", "shared": True}, True),
        ({"url": "ssh://root@localhost"}, True),
        ({"url": "ssh://me@far"}, False),
    ],
)
def test_a_node_shares_the_jobs_where_it_is_here_or_its_path_map_says_so(node: dict[str, Any], shared: bool) -> None:
    assert NodeSettings.model_validate({"engine": "docker", **node}).shares(Path("/broker/jobs")) is shared
