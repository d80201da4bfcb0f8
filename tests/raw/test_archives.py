import gzip
import io
import json
import os
import stat
import tarfile
import zipfile

import pytest

from pipeline.errors import InputProblems, PipelineError
from pipeline.raw import archives
from pipeline.raw.archives import RECORD, UnpackLimits, unpack
from tests.wording import says

CONTENTS = {"clips/-abc_DEF-12.mp4": os.urandom(3000), "clips/deep/b.webm": os.urandom(70_000), "Annotations.txt": b"Dog&b&good&0&10\n"}
KINDS = ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"]


def entry(name, content=b"", kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname, info.mode = len(content), kind, link, 0o4777
    return info, content


def write_tar(path, entries, mode="w"):
    with tarfile.open(path, mode) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return path


def write(path, kind, contents=CONTENTS):
    path = path / f"dump.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
        return path
    return write_tar(path, [entry(*item) for item in contents.items()], f"w:{kind.partition('.')[2]}")


def tree(directory):
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_everything_comes_out_with_its_bytes_and_a_record(tmp_path, kind):
    into = tmp_path / "raw" / "ave"
    assert says(unpack([write(tmp_path, kind)], into), f"{into}: 3 files, 73016 bytes", "1 archives", "0 hidden")
    files = tree(into)
    record = json.loads(files.pop(RECORD))
    assert files == CONTENTS
    assert {file["path"]: file["bytes"] for file in record["files"]} == {name: len(content) for name, content in CONTENTS.items()}
    assert [source["name"] for source in record["archives"]] == [f"dump.{kind}"]
    assert not any(path.stat().st_mode & (stat.S_ISUID | stat.S_IXUSR) for path in into.rglob("*.*") if path.is_file())
    assert says(unpack([tmp_path / f"dump.{kind}"], into), f"{into}: already unpacked", "3 files")
    assert [path.name for path in into.parent.iterdir()] == ["ave"]


BAD_NAMES = ["../evil.mp4", "/etc/evil.mp4", "a/../../evil.mp4", "a\\..\\evil.mp4", "C:/evil.mp4", "a/" + "x" * 300]


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.fault(16)
def test_every_name_that_leads_out_is_reported_and_nothing_is_written(tmp_path, kind):
    path = write(tmp_path, kind, {**dict.fromkeys(BAD_NAMES, b"evil"), "good.mp4": b"good"})
    with pytest.raises(InputProblems) as caught:
        unpack([path], tmp_path / "raw" / "ave")
    assert len(caught.value.problems) == len(BAD_NAMES)
    for name, problem in zip(BAD_NAMES, caught.value.problems, strict=True):
        assert repr(name) in problem
    assert sorted(child.name for child in tmp_path.iterdir()) == [f"dump.{kind}"]


@pytest.mark.fault(16)
def test_links_out_devices_and_pipes_are_refused_and_links_within_become_copies(tmp_path):
    good = [
        entry("a/clip.mp4", b"clip"),
        entry("b/again.mp4", kind=tarfile.SYMTYPE, link="../a/clip.mp4"),
        entry("hard.mp4", kind=tarfile.LNKTYPE, link="a/clip.mp4"),
        entry("chain.mp4", kind=tarfile.SYMTYPE, link="b/again.mp4"),
    ]
    into = tmp_path / "ave"
    unpack([write_tar(tmp_path / "good.tar", good)], into)
    files = tree(into)
    assert {name for name in files if files[name] == b"clip"} == {"a/clip.mp4", "b/again.mp4", "hard.mp4", "chain.mp4"}
    assert not any(path.is_symlink() for path in into.rglob("*"))
    bad = [
        entry("out.mp4", kind=tarfile.SYMTYPE, link="../../etc/passwd"),
        entry("absolute.mp4", kind=tarfile.SYMTYPE, link="/etc/passwd"),
        entry("hard.mp4", kind=tarfile.LNKTYPE, link="../secret"),
        entry("loop.mp4", kind=tarfile.SYMTYPE, link="loop.mp4"),
        entry("directory", kind=tarfile.SYMTYPE, link="."),
        entry("directory/below.mp4", b"written through a link"),
        entry("pipe", kind=tarfile.FIFOTYPE),
        entry("device", kind=tarfile.CHRTYPE),
    ]
    with pytest.raises(InputProblems) as caught:
        unpack([write_tar(tmp_path / "bad.tar", bad)], tmp_path / "bad")
    words = ["pipe", "device", "directory/below.mp4", "out.mp4", "absolute.mp4", "hard.mp4", "loop.mp4", "directory"]
    assert [next(word for word in words if repr(word) in problem) for problem in caught.value.problems] == words
    assert not (tmp_path / "bad").exists()


@pytest.mark.fault(16)
def test_a_zip_with_a_link_and_an_encrypted_entry_is_refused(tmp_path):
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("link.mp4")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("secret.mp4", b"secret")
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):  # the flags of the last entry, in both of its headers
        data[data.rindex(mark) + offset] |= 1
    path.write_bytes(data)
    with pytest.raises(InputProblems, match=r"(?s)'secret\.mp4' .*encrypted.*'link\.mp4' .*'/etc/passwd'"):
        unpack([path], tmp_path / "ave")


def test_hidden_files_are_left_out_and_listed_and_a_duplicate_name_is_refused(tmp_path):
    path = write(tmp_path, "zip", {"a.mp4": b"a", "__MACOSX/._a.mp4": b"x", ".DS_Store": b"x"})
    assert says(unpack([path], tmp_path / "ave"), "1 files, 1 bytes", "1 archives", "2 hidden")
    assert json.loads((tmp_path / "ave" / RECORD).read_text(encoding="utf-8"))["left_out"] == ["__MACOSX/._a.mp4", ".DS_Store"]
    twice = write_tar(tmp_path / "twice.tar", [entry("a.mp4", b"1"), entry("./a.mp4", b"2"), entry("b", b"3"), entry("b/c.mp4", b"4")])
    with pytest.raises(InputProblems, match=r"(?s)'\./a\.mp4' .*twice.*'b/c\.mp4' "):
        unpack([twice], tmp_path / "b")


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
@pytest.mark.fault(16)
def test_a_bomb_is_refused_by_its_ratio_its_bytes_or_its_entries(tmp_path, kind):
    path = write(tmp_path, kind, {"bomb.mp4": b"\0" * 5_000_000, "b.mp4": b"b"})
    for limits, word in (({}, "20 times"), ({"max_bytes": 1000}, "1000 bytes"), ({"max_files": 1, "max_ratio": 1e6}, "1 entries")):
        with pytest.raises(InputProblems, match=word):
            unpack([path], tmp_path / "ave", UnpackLimits(**limits))
    assert not (tmp_path / "ave").exists()
    unpack([path], tmp_path / "ave", UnpackLimits(max_ratio=10_000))
    assert (tmp_path / "ave" / "bomb.mp4").stat().st_size == 5_000_000


@pytest.mark.fault(16)
def test_a_header_of_gigabytes_is_not_read_into_memory(tmp_path):
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 3 * 2**30
    path = tmp_path / "bomb.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(info.tobuf(tarfile.GNU_FORMAT))
        stream.write(b"x" * 2**20)
    with pytest.raises(PipelineError, match="3221225472 bytes"):
        unpack([path], tmp_path / "ave")


@pytest.mark.fault(16)
def test_a_zip_that_states_fewer_bytes_than_it_holds_is_refused(tmp_path):
    path = write(tmp_path, "zip", {"a.mp4": b"\0" * 100_000})
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\x01\x02") + 24
    data[place : place + 4] = (50).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(PipelineError):
        unpack([path], tmp_path / "ave", UnpackLimits(max_ratio=1e6))
    assert not (tmp_path / "ave").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_archive_is_reported_and_nothing_is_published(tmp_path, kind):
    path = write(tmp_path, kind)
    path.write_bytes(path.read_bytes()[: -path.stat().st_size // 3])
    with pytest.raises(PipelineError, match=f"dump.{kind}"):
        unpack([path], tmp_path / "ave")
    assert not (tmp_path / "ave").exists()
    for content in (b"", b"<html>no archive</html>", b"\x1f\x8b"):
        path.write_bytes(content)
        with pytest.raises(PipelineError, match=f"dump.{kind}"):
            unpack([path], tmp_path / "ave")


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_an_interrupted_run_goes_on_at_the_file_it_was_at(tmp_path, monkeypatch, kind):
    path, into, written = write(tmp_path, kind), tmp_path / "ave", []
    write_file = archives._write_file

    def interrupted(stream, target, size, what):
        if len(written) == 2:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.with_name(".left.partial").write_bytes(b"half")
            raise KeyboardInterrupt
        written.append(target.name)
        return write_file(stream, target, size, what)

    monkeypatch.setattr(archives, "_write_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        unpack([path], into)
    assert not into.exists()
    again = []
    monkeypatch.setattr(archives, "_write_file", lambda *arguments: (again.append(arguments[1].name), write_file(*arguments))[1])
    unpack([path], into)
    assert again == ["Annotations.txt"]
    files = tree(into)
    record = json.loads(files.pop(RECORD))
    assert {name: files[name] for name in CONTENTS} == CONTENTS
    straight = tmp_path / "straight"
    unpack([path], straight)
    assert record == json.loads((straight / RECORD).read_text(encoding="utf-8"))


def test_a_directory_that_holds_something_else_is_left_alone(tmp_path):
    path, into = write(tmp_path, "tar"), tmp_path / "ave"
    into.mkdir()
    (into / "mine.mp4").write_bytes(b"mine")
    with pytest.raises(PipelineError, match="`unpack`"):
        unpack([path], into)
    other = tmp_path / "other"
    unpack([path], other)
    more = write(tmp_path, "zip", {"more.mp4": b"more"})
    with pytest.raises(PipelineError, match="other archives"):
        unpack([more], other)
    (other / "Annotations.txt").unlink()
    with pytest.raises(PipelineError, match=r"1 files .*Annotations\.txt"):
        unpack([path], other)


def test_several_archives_come_into_one_directory_and_must_not_overlap(tmp_path):
    first, second = write(tmp_path, "tar"), write(tmp_path, "zip", {"more.mp4": b"more"})
    unpack([first, second], tmp_path / "both")
    assert {"more.mp4", *CONTENTS, RECORD} == set(tree(tmp_path / "both"))
    with pytest.raises(InputProblems, match=r"'Annotations\.txt' .*dump\.tar"):
        unpack([first, write(tmp_path, "zip")], tmp_path / "again")
    with pytest.raises(InputProblems, match=r"nowhere\.zip: "):
        unpack([tmp_path / "nowhere.zip"], tmp_path / "again")


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
@pytest.mark.fault(16)
def test_links_count_as_the_copies_they_become(tmp_path, kind):
    """Kilobytes of links to one file would write gigabytes."""
    content = os.urandom(50_000)
    targets = "a.mp4" if kind == tarfile.LNKTYPE else "../a.mp4"
    path = write_tar(tmp_path / "x.tar", [entry("a.mp4", content), *(entry(f"b/{n}.mp4", kind=kind, link=targets) for n in range(200))])
    assert len(content) * 201 > 20 * path.stat().st_size
    with pytest.raises(InputProblems, match=r"links.* 20 times.*--max-ratio"):
        unpack([path], tmp_path / "raw")
    with pytest.raises(InputProblems, match=r"links.* 10000000 bytes.*--max-bytes"):
        unpack([path], tmp_path / "raw", UnpackLimits(max_bytes=10_000_000, max_ratio=1000))
    assert not list(tmp_path.glob("*raw*"))
    assert "201 files" in unpack([path], tmp_path / "raw", UnpackLimits(max_ratio=1000))


def test_a_path_of_megabytes_is_refused_in_a_line(tmp_path):
    path = write_tar(
        tmp_path / "x.tar", [entry("a/" * 1_000_000 + "b.mp4", b"x"), entry("c.mp4", kind=tarfile.SYMTYPE, link="d/" * 500_000)]
    )
    with pytest.raises(InputProblems) as caught:
        unpack([path], tmp_path / "raw")
    assert "1000 characters" in caught.value.problems[0]
    assert all(len(problem) < 1500 for problem in caught.value.problems)
