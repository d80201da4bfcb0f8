"""``weights.download`` against a server of our own: whole, resumed, refused."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipeline.encoders import download as module
from pipeline.encoders import weights
from pipeline.encoders.known_weights import KNOWN, KnownWeights
from pipeline.errors import PipelineError
from pipeline.registry import UnknownName

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.asked.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.can_resume else 0
        if self.path == "/gone":
            return self.send_error(404)
        if start >= len(CONTENT):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        body = CONTENT[start:]
        return self.wfile.write(body[: server.break_after] if server.break_after else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.break_after, server.can_resume = [], 0, True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    address = f"http://127.0.0.1:{server.server_port}"

    def publish(sha256=SHA256, path="/w.pth"):
        monkeypatch.setitem(KNOWN, "w", KnownWeights(name="w", file="w.pth", licence="none", url=address + path, sha256=sha256))

    server.publish = publish
    publish()
    yield server
    server.shutdown()
    server.server_close()


def test_a_download_is_whole_and_verified(server, tmp_path):
    got = weights.download("w", tmp_path / "new/folder")
    assert got == module.Downloaded(tmp_path / "new/folder/w.pth", SHA256, True)
    assert got.path.read_bytes() == CONTENT
    assert [path.name for path in got.path.parent.iterdir()] == ["w.pth"]


def test_a_file_that_is_there_is_not_fetched_again(server, tmp_path):
    weights.download("w", tmp_path)
    weights.download("w", tmp_path)
    assert server.asked == [None]


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path):
    server.break_after = 300_000
    with pytest.raises(PipelineError, match="again"):
        weights.download("w", tmp_path)
    assert not (tmp_path / "w.pth").exists()
    assert (tmp_path / "w.pth.part").stat().st_size == 300_000
    server.break_after = 0
    assert weights.download("w", tmp_path).path.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-"]


def test_a_server_that_cannot_resume_starts_over(server, tmp_path):
    (tmp_path / "w.pth.part").write_bytes(b"stale")
    server.can_resume = False
    assert weights.download("w", tmp_path).path.read_bytes() == CONTENT


def test_a_part_that_was_whole_is_published(server, tmp_path):
    (tmp_path / "w.pth.part").write_bytes(CONTENT)
    assert weights.download("w", tmp_path).path.read_bytes() == CONTENT


@pytest.mark.parametrize("sha256", ["0" * 64, "00000000"])
@pytest.mark.fault(29)
def test_a_wrong_hash_leaves_nothing_behind(server, tmp_path, sha256):
    server.publish(sha256)
    with pytest.raises(PipelineError, match=f"{SHA256} .*{sha256}"):
        weights.download("w", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_leading_digits_verify_and_no_digits_do_not(server, tmp_path):
    server.publish(SHA256[:8])
    assert weights.download("w", tmp_path / "a").verified
    server.publish("")
    got = weights.download("w", tmp_path / "b")
    assert not got.verified
    assert got.sha256 == SHA256


@pytest.mark.parametrize("sha256", [SHA256, ""])
def test_another_file_of_the_name_is_never_overwritten(server, tmp_path, sha256):
    server.publish(sha256)
    (tmp_path / "to").mkdir()
    (tmp_path / "to/w.pth").write_bytes(b"my own")
    (tmp_path / "copy").write_bytes(CONTENT)
    for source in [tmp_path / "copy", *([None] if sha256 else [])]:
        with pytest.raises(PipelineError, match=r"w\.pth"):
            weights.download("w", tmp_path / "to", from_path=source)
    assert {path.name: path.read_bytes() for path in (tmp_path / "to").iterdir()} == {"w.pth": b"my own"}
    assert server.asked == []


def test_a_local_copy_is_taken_and_verified(server, tmp_path):
    (tmp_path / "copy").write_bytes(CONTENT)
    assert weights.download("w", tmp_path / "to", from_path=tmp_path / "copy").path.read_bytes() == CONTENT
    (tmp_path / "copy").write_bytes(b"something else")
    with pytest.raises(PipelineError, match="published"):
        weights.download("w", tmp_path / "to", from_path=tmp_path / "copy")
    assert (tmp_path / "to/w.pth").read_bytes() == CONTENT
    with pytest.raises(PipelineError, match="absent"):
        weights.download("w", tmp_path / "to", from_path=tmp_path / "absent")
    assert server.asked == []


@pytest.mark.fault(29)
def test_errors_of_the_address(server, tmp_path):
    server.publish(path="/gone")
    with pytest.raises(PipelineError, match="404"):
        weights.download("w", tmp_path)
    server.shutdown()
    server.server_close()
    with pytest.raises(PipelineError, match="--from PATH"):
        weights.download("w", tmp_path)


@pytest.mark.fault(29)
def test_names_without_an_address(tmp_path):
    with pytest.raises(PipelineError, match="weights get yamnet --from PATH"):
        weights.download("yamnet", tmp_path)
    with pytest.raises(UnknownName, match="'resnet50'"):
        weights.download("resnet5", tmp_path)
