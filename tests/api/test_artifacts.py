from __future__ import annotations

import hashlib
import io
import os
import zipfile

import pytest

from tests.api.running import Running

CONTENT = os.urandom(2_500_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def test_content_is_served_whole_and_in_ranges(api_everywhere: Running) -> None:
    api = api_everywhere
    id_ = api.submit()["id"]
    artifact = api.succeed(id_, {"módel 1.pt2": CONTENT})["módel 1.pt2"]
    assert (artifact["size"], artifact["sha256"]) == (len(CONTENT), SHA256)
    address = f"/v1/artifacts/{artifact['id']}/content"
    whole = api.http.get(address)
    assert (whole.status_code, whole.content) == (200, CONTENT)
    assert whole.headers["etag"] == f'"{SHA256}"'
    assert whole.headers["content-length"] == str(len(CONTENT))
    assert whole.headers["content-disposition"] == "attachment; filename*=UTF-8''m%C3%B3del%201.pt2"
    head = api.http.head(address)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(CONTENT)))
    assert head.headers["accept-ranges"] == "bytes"
    assert api.http.get(address, headers={"If-None-Match": f'"{SHA256}"'}).status_code == 304

    size = len(CONTENT)
    for asked, start, end in [
        ("bytes=0-0", 0, 1),
        ("bytes=1000000-1999999", 1_000_000, 2_000_000),
        (f"bytes={size - 5}-", size - 5, size),
        ("bytes=-7", size - 7, size),
        (f"bytes=10-{size * 2}", 10, size),
        (f"bytes=-{size * 2}", 0, size),
    ]:
        part = api.http.get(address, headers={"Range": asked})
        assert (part.status_code, part.headers["content-range"]) == (206, f"bytes {start}-{end - 1}/{size}"), asked
        assert part.content == CONTENT[start:end]
    for ignored in ("bytes=0-1,5-6", "lines=0-1", "bytes=5-2", "bytes=-", "bytes=x"):
        assert api.http.get(address, headers={"Range": ignored}).status_code == 200, ignored
    for beyond in (f"bytes={size}-", "bytes=-0"):
        answer = api.http.get(address, headers={"Range": beyond})
        assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{size}")
        assert answer.json()["type"] == "/problems/range-unsatisfiable"
    stale = api.http.get(address, headers={"Range": "bytes=0-0", "If-Range": '"other"'})
    assert stale.status_code == 200


def test_a_zip_of_all(api_everywhere: Running) -> None:
    api = api_everywhere
    id_ = api.submit()["id"]
    assert api.http.get(f"/v1/jobs/{id_}/artifacts.zip").json()["type"] == "/problems/not-yet"
    files = {"model.pt2": CONTENT, "report.json": b"{}", "empty.txt": b""}
    api.succeed(id_, files)
    answer = api.http.get(f"/v1/jobs/{id_}/artifacts.zip")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == files
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_report_and_log(api_everywhere: Running) -> None:
    api = api_everywhere
    id_ = api.submit()["id"]
    assert api.http.get(f"/v1/jobs/{id_}/report").json()["type"] == "/problems/not-yet"
    assert api.http.get(f"/v1/jobs/{id_}/log").text == ""
    api.succeed(id_, {"report.md": "# Smaller ×2".encode()}, report={"headline": "smaller"})
    assert api.http.get(f"/v1/jobs/{id_}/report").json() == {"headline": "smaller"}
    markdown = api.http.get(f"/v1/jobs/{id_}/report", headers={"Accept": "text/markdown"})
    assert (markdown.text, markdown.headers["content-type"]) == ("# Smaller ×2", "text/markdown; charset=utf-8")
    path = api.settings.data_dir / "log"
    path.write_text("epoch 1\n")
    api.objects.put_file(f"jobs/{id_}/log", path)
    log = api.http.get(f"/v1/jobs/{id_}/log")
    assert (log.text, log.headers["content-type"]) == ("epoch 1\n", "text/plain; charset=utf-8")


@pytest.mark.parametrize("path", ["", "/content"])
def test_what_isnt_there(api: Running, path: str) -> None:
    answer = api.http.get(f"/v1/artifacts/art_00000000000000000000000000{path}")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
