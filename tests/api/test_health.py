from __future__ import annotations

from store.roster import sign_in
from store.settings import Settings
from tests.api.running import Json, Running, run
from tests.servers import Postgres, free_ports


def test_ready_and_figures(api_everywhere: Running) -> None:
    api = api_everywhere
    assert api.http.get("/livez").json() == {"status": "ok"}
    ready = api.http.get("/readyz")
    assert ready.status_code == 200, ready.text
    assert ready.json() == {
        "ready": True,
        "checks": {"database": "ok", "objects": "ok", "broker": "ok"},
        "workers": [],
    }
    api.submit()
    running = api.submit()["id"]
    api.claim(running)
    sign_in(api.database, "w1", ["cpu"], "cpu", "landlock-files")
    api.upload("dataset")
    expected = {"name": "w1", "queues": ["cpu"], "device": "cpu", "sandbox": "landlock-files"}
    assert api.http.get("/readyz").json()["workers"] == [expected]
    figures = dict(
        line.rsplit(" ", 1) for line in api.http.get("/metrics").text.splitlines() if not line.startswith("#")
    )
    assert figures['niwaki_jobs{state="queued"}'] == "1"
    assert figures['niwaki_jobs{state="running"}'] == "1"
    assert figures['niwaki_jobs{state="failed"}'] == "0"
    assert 0 <= float(figures["niwaki_queue_age_seconds"]) < 30
    assert figures['niwaki_inspecting{kind="dataset"}'] == "1"


def test_readyz_names_what_is_wrong(embedded_settings: Settings, inspection: Json) -> None:
    """A broker and an object store that nobody listens for, and no tables."""
    broker, s3 = free_ports(2)
    folder = embedded_settings.data_dir
    settings = Settings(
        data_dir=folder,
        database_url=f"sqlite+pysqlite:///{folder}/empty.db",
        broker_url=f"redis://127.0.0.1:{broker}/0",
        objects_url="s3://none",
        s3_endpoint=f"http://127.0.0.1:{s3}",
    )
    with run(settings, inspection) as api:
        answer = api.http.get("/readyz")
        assert answer.status_code == 503
        checks = answer.json()["checks"]
        assert "no such table" in checks["database"]
        assert checks["objects"] != "ok"
        assert "refused" in checks["broker"]
        poll = api.http.get("/v1/jobs/job_00000000000000000000000000")
        assert (poll.status_code, poll.json()["type"]) == (503, "/problems/unavailable")
        away = api.http.post("/v1/models", content=b"x")
        assert (away.status_code, away.json()["type"]) == (503, "/problems/unavailable")
        assert not list(api.objects.incoming.iterdir())


def test_lost_connections_are_told_and_replaced(
    production_settings: Settings, inspection: Json, postgres_server: Postgres
) -> None:
    with run(production_settings, inspection) as api:
        id_ = api.submit()["id"]
        name = production_settings.database_url.rpartition("/")[2]
        postgres_server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")  # noqa: S608 - our own name
        for address in (f"/v1/jobs/{id_}", "/v1/jobs"):
            answers = [api.http.get(address) for _ in range(api.settings.database_connections + 1)]
            assert answers[-1].status_code == 200
            lost = {answer.json()["type"] for answer in answers if answer.status_code != 200}
            assert lost <= {"/problems/unavailable"}
