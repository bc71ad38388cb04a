from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from store.settings import Settings
from tests.api.running import Running
from tests.servers import environment, free_ports

WEIGHTS = os.urandom(3_000_000)


def blobs(api: Running) -> dict[str, int]:
    return api.objects.list("blobs")


def left_behind(api: Running) -> list[Path]:
    return list(api.objects.incoming.iterdir())


def test_a_raw_upload_is_kept_as_it_came(api_everywhere: Running) -> None:
    api = api_everywhere
    params = {"name": "net", "filename": "net.pt2", "tag": ["a", "b"]}
    answer = api.http.post("/v1/models", content=WEIGHTS, params=params)
    assert answer.status_code == 201
    body = answer.json()
    assert answer.headers["location"] == f"/v1/models/{body['id']}"
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    assert (body["name"], body["filename"], body["tags"]) == ("net", "net.pt2", ["a", "b"])
    assert (body["state"], body["size"], body["sha256"]) == ("inspecting", len(WEIGHTS), digest)
    assert blobs(api) == {f"blobs/{digest}": len(WEIGHTS)}
    found = api.http.get(answer.headers["location"])
    assert found.json() == body
    assert found.headers["retry-after"] == "1"
    assert not left_behind(api)


def test_the_same_bytes_are_kept_once_and_go_with_their_last_row(api_everywhere: Running) -> None:
    api = api_everywhere
    first, second = api.upload(), api.upload(name="again")
    assert len(blobs(api)) == 1
    assert api.http.delete(f"/v1/models/{first['id']}").status_code == 204
    assert len(blobs(api)) == 1
    assert api.http.delete(f"/v1/models/{second['id']}").status_code == 204
    assert not blobs(api)
    assert api.http.delete(f"/v1/models/{second['id']}").status_code == 404


def test_a_form_brings_the_same(api_everywhere: Running) -> None:
    api = api_everywhere
    said = {"architecture": "lenet5", "arguments": {"classes": 10}}
    answer = api.http.post(
        "/v1/models",
        files={"file": ("C:\\nets\\lénet.safetensors", WEIGHTS)},
        data={"name": "", "tag": ["x", "y"], "architecture": json.dumps(said)},
    )
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert (body["filename"], body["name"], body["tags"]) == ("lénet.safetensors", "lénet.safetensors", ["x", "y"])
    assert body["architecture"] == said
    assert blobs(api) == {f"blobs/{hashlib.sha256(WEIGHTS).hexdigest()}": len(WEIGHTS)}


def test_lengths_for_the_free_axes_of_a_file_are_kept(api: Running) -> None:
    said = {"inputs": {"x": [3, 48, 192]}}
    answer = api.http.post("/v1/models", content=b"x", params={"filename": "m.onnx", "architecture": json.dumps(said)})
    assert answer.status_code == 201, answer.text
    assert answer.json()["architecture"] == said


def test_a_form_may_name_its_fields_after_the_file(api: Running) -> None:
    boundary = "x" * 20
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="d.npz"\r\n\r\nbytes\r\n']
    parts += [f'--{boundary}\r\nContent-Disposition: form-data; name="name"\r\n\r\nlate\r\n--{boundary}--\r\n']
    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    body = api.http.post("/v1/datasets", content="".join(parts).encode(), headers=headers).json()
    assert (body["name"], body["filename"], body["size"]) == ("late", "d.npz", 5)


def test_the_filename_may_come_by_content_disposition(api: Running) -> None:
    headers = {"content-disposition": 'attachment; filename="net.pt2"'}
    assert api.http.post("/v1/models", content=b"x", headers=headers).json()["filename"] == "net.pt2"


def truncated_form() -> dict[str, object]:
    text = b'--b\r\nContent-Disposition: form-data; name="file"; filename="d"\r\n\r\nbytes'
    return {"content": text, "headers": {"content-type": "multipart/form-data; boundary=b"}}


@pytest.mark.parametrize(
    ("request_", "status", "slug"),
    [
        ({"content": b""}, 400, "upload-empty"),
        ({"files": {"file": ("a", b"")}}, 400, "upload-empty"),
        ({"files": {"other": ("a", b"x")}}, 422, "request-invalid"),
        ({"files": {"file": ("a", b"x")}, "data": {"colour": "red"}}, 422, "request-invalid"),
        ({"files": {"file": ("a", b"x")}, "data": {"name": "n" * 201}}, 422, "request-invalid"),
        ({"files": {"file": ("a", b"x")}, "data": {"name": "n" * 20_000}}, 400, "body-unreadable"),
        ({"files": [("file", ("a", b"x")), ("file", ("b", b"y"))]}, 400, "body-unreadable"),
        ({"files": [(f"f{i}", (None, b"x")) for i in range(70)]}, 400, "body-unreadable"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "body-unreadable"),
        (
            {"content": b"no form", "headers": {"content-type": "multipart/form-data; boundary=b"}},
            400,
            "body-unreadable",
        ),
        (truncated_form(), 400, "upload-incomplete"),
        ({"content": b"x", "params": {"architecture": "{}"}}, 422, "request-invalid"),
        ({"content": b"x", "params": {"architecture": "lenet5"}}, 422, "request-invalid"),
        ({"content": b"x", "params": {"architecture": '{"architecture": "nosuch"}'}}, 422, "request-invalid"),
        ({"content": b"x", "params": {"architecture": "[" * 9000}}, 422, "request-invalid"),
        ({"content": b"x", "params": {"architecture": '{"inputs": {"x": [0]}}'}}, 422, "request-invalid"),
        ({"content": b"x", "params": {"architecture": '{"inputs": [3]}'}}, 422, "request-invalid"),
        ({"content": b"x", "params": {"architecture": '{"inputs": {"\\ud800": [3]}}'}}, 422, "request-invalid"),
        ({"content": b"x", "params": {"colour": "red"}}, 422, "request-invalid"),
        ({"content": b"x", "params": {"name": "a\x00b"}}, 422, "request-invalid"),
        ({"content": b"x", "params": {"tag": "no spaces"}}, 422, "request-invalid"),
    ],
)
def test_what_is_wrong_is_a_problem_and_keeps_nothing(
    api: Running, request_: dict[str, object], status: int, slug: str
) -> None:
    answer = api.http.post("/v1/models", **request_)
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}"), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert not blobs(api)
    assert not left_behind(api)


def test_too_large_is_told_before_and_while_it_comes(embedded_settings: Settings, api: Running) -> None:
    assert embedded_settings is api.settings
    api.settings.max_upload_bytes = 1000

    def pieces() -> Iterator[bytes]:  # of unknown length
        yield from [b"x" * 600] * 2

    for content in (b"x" * 1001, pieces()):
        answer = api.http.post("/v1/models", content=content)
        assert (answer.status_code, answer.json()["type"]) == (413, "/problems/body-too-large")
    form = {"file": ("a", b"x" * 1001)}
    assert api.http.post("/v1/models", files=form).status_code == 413
    assert api.http.post("/v1/models", content=b"x" * 1000).status_code == 201
    assert list(blobs(api).values()) == [1000]
    assert not left_behind(api)


@pytest.mark.parametrize("kind", ["application/octet-stream", "multipart/form-data; boundary=b"])
def test_an_upload_that_breaks_off_leaves_nothing(api_everywhere: Running, kind: str) -> None:
    api = api_everywhere
    head = f"POST /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\nContent-Type: {kind}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", api.port)) as connection:
        connection.sendall(head.encode())
        connection.sendall(b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + WEIGHTS[:2_000_000])
        deadline = time.monotonic() + 10
        while not left_behind(api):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    while left_behind(api):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not blobs(api)
    assert api.http.get("/v1/models").json()["items"] == []


def test_lists_are_paged_and_filtered(api_everywhere: Running) -> None:
    api = api_everywhere
    ids = [api.upload(name=f"Net {n}", tag=["even"] if n % 2 == 0 else ["odd", "a.b"])["id"] for n in range(5)]
    api.inspect(ids[0])
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = api.http.get("/v1/models", params={"limit": 2, **cursor}).json()
        seen += [item["id"] for item in page["items"]]
        assert len(page["items"]) <= 2
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert seen == sorted(ids, reverse=True)

    def found(**params: str) -> set[str]:
        return {item["id"] for item in api.http.get("/v1/models", params=params).json()["items"]}

    assert found(state="ready") == {ids[0]}
    assert found(tag="even") == {ids[0], ids[2], ids[4]}
    assert found(tag="a.b") == {ids[1], ids[3]}
    assert found(tag="eve") == set()
    assert found(name="net 3") == {ids[3]}
    assert found(name="%") == set()
    assert "inspection" not in api.http.get("/v1/models").json()["items"][-1]
    assert api.http.get("/v1/datasets").json() == {"items": [], "next": None}


def test_a_rejected_upload_says_why(api: Running) -> None:
    id_ = api.upload()["id"]
    why = {"kind": "model-unsafe", "message": "a pickle", "where": "net.pt"}
    api.inspect(id_, problem=why)
    answer = api.http.get(f"/v1/models/{id_}")
    assert (answer.json()["state"], answer.json()["problem"]) == ("rejected", why)
    assert "retry-after" not in answer.headers


def test_what_a_job_needs_stays(api: Running) -> None:
    model = api.model()
    job = api.submit(model)["id"]
    answer = api.http.delete(f"/v1/models/{model}")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/in-use")
    assert job in answer.json()["detail"]
    api.http.post(f"/v1/jobs/{job}/cancel")
    assert api.http.delete(f"/v1/models/{model}").status_code == 204


def memory(pid: int) -> int:
    """Peak resident bytes."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("form", [False, True], ids=["raw", "form"])
def test_an_upload_takes_no_memory(embedded_settings: Settings, form: bool) -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "uvicorn", "--factory", "api.app:create_app", "--port", str(port)]
    with subprocess.Popen([*command, "--log-level", "warning"], env=environment(embedded_settings)) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as http:
                deadline = time.monotonic() + 30
                while True:
                    try:
                        assert http.get("/readyz").status_code == 200
                        break
                    except httpx.ConnectError:
                        assert time.monotonic() < deadline
                        time.sleep(0.05)
                assert http.post("/v1/models", content=b"warm").status_code == 201
                before = memory(process.pid)
                piece, count = os.urandom(1_000_000), 200
                head, tail = b"", b""
                headers = {"content-type": "application/octet-stream"}
                if form:
                    headers = {"content-type": "multipart/form-data; boundary=b"}
                    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
                    tail = b"\r\n--b--\r\n"

                def body() -> Iterator[bytes]:
                    yield head
                    for _ in range(count):
                        yield piece
                    yield tail

                answer = http.post("/v1/models", content=body(), headers=headers)
                assert (answer.status_code, answer.json()["size"]) == (201, 200_000_000)
                assert memory(process.pid) - before < 32_000_000
        finally:
            process.terminate()
