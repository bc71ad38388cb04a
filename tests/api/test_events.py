from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import httpx

from store import jobs, outcomes
from tests.api.running import Json, Running


def parsed(stream: httpx.Response) -> Iterator[tuple[int, str, Json]]:
    id_, kind = 0, ""
    for line in stream.iter_lines():
        name, _, value = line.partition(": ")
        if name == "id":
            id_ = int(value)
        elif name == "event":
            kind = value
        elif name == "data":
            yield id_, kind, json.loads(value)


def test_a_stream_follows_a_job_to_its_end_and_is_replayed(api_everywhere: Running) -> None:
    api = api_everywhere
    id_ = api.submit()["id"]
    address = f"/v1/jobs/{id_}/events"
    seen: list[tuple[int, str, Json]] = []
    started = threading.Event()

    def work() -> None:
        assert started.wait(10)
        lease = api.claim(id_)
        for number in range(3):
            outcomes.record(api.database, lease, [("progress", {"index": 0, "fraction": number / 3, "message": "…"})])
            time.sleep(0.05)
        outcomes.succeed(api.database, lease, [], {"headline": "done"})

    worker = threading.Thread(target=work)
    worker.start()
    with api.http.stream("GET", address) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for event in parsed(stream):
            seen.append(event)
            started.set()
    worker.join()
    assert [kind for _, kind, _ in seen] == ["state", "state", "progress", "progress", "progress", "state"]
    assert seen[-1][2]["state"] == "succeeded"
    assert [data["fraction"] for _, kind, data in seen if kind == "progress"] == [0, 1 / 3, 2 / 3]
    ids = [number for number, _, _ in seen]
    assert ids == sorted(set(ids))

    with api.http.stream("GET", address, headers={"Last-Event-ID": str(ids[2])}) as stream:
        assert list(parsed(stream)) == seen[3:]
    with api.http.stream("GET", address, headers={"Last-Event-ID": str(ids[-1])}) as stream:
        assert list(parsed(stream)) == []
    with api.http.stream("GET", address, params={"after": ids[3]}) as stream:
        assert list(parsed(stream)) == seen[4:]
    listed = api.http.get(address, params={"after": ids[3]}, headers={"Accept": "application/json"}).json()["items"]
    assert [(item["id"], item["kind"]) for item in listed] == [(number, kind) for number, kind, _ in seen[4:]]


def test_a_long_history_comes_whole(api: Running) -> None:
    id_ = api.submit()["id"]
    lease = api.claim(id_)
    outcomes.record(api.database, lease, [("progress", {"number": number}) for number in range(1200)])
    outcomes.fail(api.database, lease, {"kind": "crashed", "message": "", "where": ""})
    with api.http.stream("GET", f"/v1/jobs/{id_}/events") as stream:
        numbers = [data["number"] for _, kind, data in parsed(stream) if kind == "progress"]
    assert numbers == list(range(1200))


def test_a_stream_ends_when_its_job_is_deleted(api: Running) -> None:
    id_ = api.submit()["id"]
    with api.http.stream("GET", f"/v1/jobs/{id_}/events") as stream:
        events = parsed(stream)
        assert next(events)[2]["state"] == "queued"
        jobs.request_cancel(api.database, id_)
        jobs.remove(api.database, api.objects, id_)
        assert [data["state"] for _, _, data in events] in ([], ["canceled"])


def test_many_streams_at_once_all_hear_the_end(api: Running) -> None:
    id_ = api.submit()["id"]
    ends: list[str] = []

    def follow() -> None:
        address = f"http://127.0.0.1:{api.port}/v1/jobs/{id_}/events"
        with httpx.stream("GET", address, trust_env=False, timeout=30) as stream:
            ends.append(list(parsed(stream))[-1][2]["state"])

    threads = [threading.Thread(target=follow) for _ in range(60)]
    for thread in threads:
        thread.start()
    assert api.http.get(f"/v1/jobs/{id_}").status_code == 200  # streams that wait hold no thread
    api.http.post(f"/v1/jobs/{id_}/cancel")
    for thread in threads:
        thread.join(30)
    assert ends == ["canceled"] * 60


def test_wrong_parameters(api: Running) -> None:
    id_ = api.submit()["id"]
    answer = api.http.get(f"/v1/jobs/{id_}/events", headers={"Last-Event-ID": "x"})
    assert (answer.status_code, answer.json()["errors"][0]["in"]) == (422, "header")
    assert api.http.get("/v1/jobs/job_00000000000000000000000000/events").status_code == 404
