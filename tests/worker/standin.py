"""A stand-in for the engine that speaks the child's contract, in a fraction of a second and without torch.

`spec["play"]` says what it does at each step: a list of acts by name. The worker starts it by its source (`ENGINE`), so
that it needs no file inside the box. `python -m tests.worker.standin` is a worker with this engine.
"""

from __future__ import annotations

import inspect
import sys


def engine() -> None:  # noqa: C901 - a list of acts
    import json
    import os
    import sys
    import threading
    import time
    from pathlib import Path

    arguments = sys.argv[1:]
    options = {name: arguments[at + 1] for at, name in enumerate(arguments[:-1]) if name.startswith("--")}

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os._exit(75)

    threading.Thread(target=watch, daemon=True).start()

    def say(event: str, **fields: object) -> None:
        print(json.dumps({"event": event, **fields}), flush=True)

    def refuse(kind: str, message: str) -> None:
        say("refused", error={"kind": kind, "message": message, "where": "here"})
        sys.exit(2)

    if arguments[0] == "inspect":
        content = Path(arguments[1]).read_bytes()
        if content == b"crash":
            os.abort()
        if content == b"silent":
            say("done")
            return
        if content.startswith(b"bad"):
            refuse("model-unreadable", "not a model")
        say("done", inspection={"kind": options["--kind"], "bytes": len(content), "name": Path(arguments[1]).name})
        return

    spec = json.loads(Path(arguments[1]).read_text())
    model, out = Path(options["--model"]), Path(options["--out"])
    print("the log", file=sys.stderr, flush=True)
    say("started")
    say("loading", device="cpu")
    resumed = sorted(path.name for path in (out / "checkpoints").glob("*"))
    for index, act in enumerate(spec["play"]):
        say("step_started", index=index, method=act)
        if act == "work":
            for number in range(20):
                say("progress", index=index, fraction=number / 20, message="working", metrics={"loss": 1.0})
        elif act == "checkpoint":
            folder = out / "checkpoints" / f"{index}-stage"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "state.safetensors").write_bytes(model.read_bytes() * 2)
            (folder / "facts.json").write_text("{}")
            say("checkpoint", path=folder.name)
        elif act == "hang":
            time.sleep(600)
        elif act == "hang unless resumed":
            if not resumed:
                time.sleep(600)
        elif act == "wait for the file":
            while not (out / "go").exists():
                time.sleep(0.02)
        elif act == "refuse":
            refuse("method-inapplicable", "there is nothing to prune")
        elif act == "crash":
            os.abort()
        elif act == "eat memory":
            bytearray(64 << 30)
        elif act == "talk nonsense":
            print("nonsense", flush=True)
            time.sleep(600)
        elif act == "finish a step that isn't there":
            say("step_finished", index=99, record={})
            time.sleep(600)
        elif act == "forge a state":
            say("state", state="succeeded")
            time.sleep(600)
        elif act == "checkpoint of another folder":
            say("checkpoint", path="../../../..")
            time.sleep(600)
        elif act == "checkpoint through a link":
            (out / "checkpoints").mkdir(exist_ok=True)
            (out / "checkpoints" / "link").symlink_to("/proc/self")
            say("checkpoint", path="link")
            time.sleep(600)
        elif act == "checkpoint that is gone":
            say("checkpoint", path="gone")
        say("step_finished", index=index, record={"method": act, "seconds": 0.5, "resumed": resumed})
    say("exporting")
    artifacts = out / "artifacts"
    artifacts.mkdir()
    (artifacts / "model.pt2").write_bytes(model.read_bytes()[::-1])
    say("exported", name="model.pt2")
    say("measuring")
    report = {"data": Path(options["--data"]).read_text() if "--data" in options else None}
    report |= {"architecture": json.loads(options["--architecture"])} if "--architecture" in options else {}
    if "--models" in options:
        listed = json.loads(Path(options["--models"]).read_text())
        report["models"] = {
            id_: [Path(entry["path"]).read_text(), entry["architecture"]] for id_, entry in listed.items()
        }
    if "deliver a link" in spec["play"]:
        (artifacts / "passwords").symlink_to("/etc/passwd")
    if "deliver a folder" in spec["play"]:
        (artifacts / "folder").mkdir()
    if "deliver no report" not in spec["play"]:
        (artifacts / "report.json").write_text("NaN" if "deliver NaN" in spec["play"] else json.dumps(report))
    say("done", inspection={"layers": []})


ENGINE = (sys.executable, "-c", f"from __future__ import annotations\n{inspect.getsource(engine)}\nengine()")


if __name__ == "__main__":
    import logging

    from store.settings import Settings
    from worker.service import open_worker
    from worker.tasks import serve_queues

    logging.basicConfig(level="INFO")
    with open_worker(Settings(), ENGINE) as opened:
        serve_queues(opened)
