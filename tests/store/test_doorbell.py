import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from celery import Celery

from store.doorbell import INSPECT, RUN_JOB, Ring, job_rings, open_doorbell, ring, upload_ring
from store.settings import Settings
from tests.servers import free_ports


def take(app: Celery, queue: str) -> list[tuple[str, list[str]]]:
    """Every message that lies on a queue: the task's name and arguments."""
    taken = []
    with app.connection_for_read() as connection, connection.channel() as channel:
        while (message := channel.basic_get(queue, no_ack=True)) is not None:
            body = message.body if isinstance(message.body, str) else message.body.decode()
            taken.append((message.headers["task"], json.loads(body)[0]))
    return taken


@pytest.fixture(params=["filesystem", "redis"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Celery:
    url = "filesystem://broker"
    if request.param == "redis":
        import redis

        url = request.getfixturevalue("redis_url")
        with redis.Redis.from_url(url) as client:
            client.flushall()
    return open_doorbell(Settings(data_dir=tmp_path, broker_url=url))


def test_a_ring_is_one_message_with_an_id(app: Celery) -> None:
    assert ring(app, [*job_rings("job_1", "auto", ()), *job_rings("job_2", "gpu", ()), upload_ring("model", "mdl_1")])
    assert take(app, "cpu") == [(RUN_JOB, ["job_1"])]
    assert take(app, "gpu") == [(RUN_JOB, ["job_1"]), (RUN_JOB, ["job_2"])]
    assert take(app, "inspect") == [(INSPECT, ["model", "mdl_1"])]
    assert take(app, "cpu") == []


def test_every_message_is_taken_once_however_many_take(app: Celery) -> None:
    wanted = [f"job_{n}" for n in range(60)]
    done = threading.Event()

    def send(ids: list[str]) -> None:
        for id_ in ids:
            assert ring(app, job_rings(id_, "cpu", ()))

    def collect() -> list[str]:
        found: list[str] = []
        while not done.is_set():
            found += [arguments[0] for _, arguments in take(app, "cpu")]
        return found + [arguments[0] for _, arguments in take(app, "cpu")]

    with ThreadPoolExecutor(4) as pool:
        takers = [pool.submit(collect) for _ in range(2)]
        senders = [pool.submit(send, wanted[n::2]) for n in range(2)]
        try:
            for sender in senders:
                sender.result()
        finally:
            done.set()
    assert sorted(id_ for taker in takers for id_ in taker.result()) == sorted(wanted)


def test_a_broker_that_is_away_breaks_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (port,) = free_ports(1)
    app = open_doorbell(Settings(data_dir=tmp_path, broker_url=f"redis://127.0.0.1:{port}/0"))
    assert ring(app, job_rings("job_1", "cpu", ())) is False
    assert "the sweeper will ring again" in caplog.text


def test_a_broker_folder_that_is_gone_breaks_nothing(tmp_path: Path) -> None:
    app = open_doorbell(Settings(data_dir=tmp_path))
    for path in sorted((tmp_path / "broker").rglob("*"), reverse=True):
        path.rmdir()
    assert ring(app, [Ring("cpu", RUN_JOB, ("job_1",))]) is False


def test_a_wrong_task_is_not_hidden(tmp_path: Path) -> None:
    app = open_doorbell(Settings(data_dir=tmp_path))
    with pytest.raises(TypeError):
        ring(app, [Ring("cpu", RUN_JOB, "no tuple")])  # type: ignore[arg-type]
