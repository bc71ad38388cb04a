"""`python -m compression inspect FILE | methods | run SPEC --model M [--data D] --out DIR | decode FILE --to KIND`.

Prints for people, or JSON with `--json` (`run` streams one event a line). Exit status 0: done; 2: the input was
refused, with the reason on stderr; 3: a transform failed its verification and nothing was published.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeGuard, get_args

from pydantic import BaseModel

from compression.errors import IntakeError, NiwakiError, Refusal, SpecError
from compression.events import Reporter
from compression.json_schema import schema_of
from compression.registry import methods
from compression.spec import Export, parse_job

if TYPE_CHECKING:
    from compression.pipeline import ModelFile

MAX_SPEC_BYTES = 1 << 20
INSPECT_SECONDS = 20  # of processor time
INSPECT_BYTES_A_SECOND = 20_000_000  # more time for a larger file


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    os.environ.setdefault(
        "ORT_DISABLE_TELEMETRY", "1"
    )  # ONNX Runtime would send usage data, and complain where it can't
    if options.watch_stdin:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    events = _private_stdout() if options.json else sys.stdout
    reporter = Reporter(events, as_json=options.json)
    command: Callable[[argparse.Namespace, Reporter], None] = options.command
    try:
        command(options, reporter)
    except NiwakiError as error:
        return _report(error, reporter)
    return 0


def _report(error: NiwakiError, reporter: Reporter) -> int:
    """Tells the error; the exit status that belongs to it."""
    refused = isinstance(error, Refusal)
    if reporter.as_json:
        reporter.emit("refused" if refused else "failed", error=error.as_dict())
    else:
        print(f"niwaki: {'refused' if refused else 'failed'} ({error.kind}): {error}", file=sys.stderr)
    return 2 if refused else 3


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m compression", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    inspect = commands.add_parser("inspect", help="what a model or data file holds, and what can be done with it")
    inspect.add_argument("file", type=Path)
    inspect.add_argument("--kind", choices=["model", "data"], help="needed only where the file could be either")
    inspect.set_defaults(command=_inspect)

    listing = commands.add_parser("methods", help="the methods and their fields")
    listing.set_defaults(command=_methods)

    run = commands.add_parser("run", help="run a job spec on files")
    run.add_argument("spec", type=Path)
    run.add_argument("--model", type=Path, required=True)
    run.add_argument("--data", type=Path)
    run.add_argument(
        "--models",
        type=Path,
        help='JSON: the files of other models that the spec names, {ID: {"path": FILE, "architecture": …}}; without it '
        "a path in the spec does",
    )
    run.add_argument("--out", type=Path, required=True, help="folder for artifacts/ and checkpoints/; a rerun resumes")
    run.add_argument("--device", default="auto", help="auto (as the spec says), cpu, cuda or cuda:N")
    run.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of PyTorch; measuring uses one")
    run.set_defaults(command=_run)

    decode = commands.add_parser("decode", help="write a .nwk file's network in another format")
    decode.add_argument("file", type=Path)
    decode.add_argument("--to", choices=[kind for kind in get_args(Export) if kind != "nwk"], required=True)
    decode.add_argument("--out", type=Path, help="the file to write; the .nwk file's name with another suffix, if none")
    decode.set_defaults(command=_decode)

    for command in (inspect, run):
        command.add_argument(
            "--architecture",
            help='JSON for .safetensors: {"architecture": "resnet20", "arguments": {}}; for free axes of an .onnx: '
            '{"inputs": {"x": [3, 48, 192]}}',
        )
    for command in (inspect, listing, run, decode):
        command.add_argument("--json", action="store_true", help="JSON on stdout")
        command.add_argument("--watch-stdin", action="store_true", help="end when stdin is closed")
    return parser


def _inspect(options: argparse.Namespace, reporter: Reporter) -> None:
    _require_file(options.file)
    from compression.intake.inspect import describe, inspect_file

    done = threading.Event()
    threading.Thread(target=_end_late, args=(options.file, reporter, done), daemon=True).start()
    inspection = inspect_file(options.file, _architecture(options), options.kind)
    done.set()
    if options.json:
        reporter.emit("done", inspection=inspection)
    else:
        print(describe(inspection))


def _end_late(path: Path, reporter: Reporter, done: threading.Event) -> None:
    """Refuses a file that takes too long, whatever is being computed at that moment: an operator on small tensors can
    be made to run for days. What counts is the processor time of the main thread, so that a busy machine refuses
    nothing that an idle one takes."""
    seconds = INSPECT_SECONDS + path.stat().st_size // INSPECT_BYTES_A_SECOND
    clock = time.pthread_getcpuclockid(threading.main_thread().ident or 0)
    start = time.clock_gettime(clock)
    while not done.wait(0.2):
        if time.clock_gettime(clock) - start > seconds:
            message = (
                f"inspecting it takes more than {seconds} seconds: the network computes too much to be worked with"
            )
            os._exit(_report(IntakeError(message, path.name, "too-slow"), reporter))


def _methods(options: argparse.Namespace, reporter: Reporter) -> None:
    if options.json:
        schemas = {
            name: {"summary": entry.summary, "schema": schema_of(entry.spec)} for name, entry in methods().items()
        }
        reporter.emit("done", methods=schemas)
        return
    for name, method in methods().items():
        print(f"{name}\n    {method.summary}")
        _print_fields(method.spec, indent=4)


def _print_fields(model: type[BaseModel], indent: int) -> None:
    """Name, default and description of each field; the fields of a block below it."""
    for name, info in model.model_fields.items():
        if name == "method":
            continue
        block = next((part for part in (info.annotation, *get_args(info.annotation)) if _is_block(part)), None)
        default = "" if info.is_required() or block else f" (default {info.get_default(call_default_factory=True)})"
        described = info.description or (block.__doc__ or "").splitlines()[0] if block else info.description
        print(f"{' ' * indent}{name}{default}: {described}")
        if block is not None:
            _print_fields(block, indent + 4)


def _is_block(part: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(part, type) and issubclass(part, BaseModel)


def _run(options: argparse.Namespace, reporter: Reporter) -> None:
    reporter.emit("started")
    spec = parse_job(_json_file(options.spec, "spec"))
    for path in (options.model, options.data):
        if path is not None:
            _require_file(path)
    if options.threads < 1:
        raise SpecError("at least one thread is needed", "--threads")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecError(f"the folder can't be made: {error.strerror}", "--out") from error
    from compression.intake.inspect import inspect_file, inspect_network
    from compression.network import Network
    from compression.pipeline import Job, run

    job = Job(
        spec=spec,
        model=options.model,
        data=options.data,
        out=options.out,
        architecture=_architecture(options),
        device={"gpu": "cuda"}.get(spec.device, spec.device) if options.device == "auto" else options.device,
        threads=options.threads,
        models=_models(options.models),
    )
    outcome = run(job, reporter)
    if options.json:
        left = outcome.network
        file = options.out / "artifacts" / "model.onnx"  # what runs in integers is this file
        reporter.emit("done", inspection=inspect_network(left) if isinstance(left, Network) else inspect_file(file))
    else:
        print((options.out / "artifacts" / "report.md").read_text())


def _decode(options: argparse.Namespace, reporter: Reporter) -> None:
    _require_file(options.file)
    from compression.container.decode import decode_file

    out = options.out or options.file.with_suffix(f".{options.to}")
    if out.exists():
        raise SpecError("there is a file of that name already; give another with --out", str(out))
    written = decode_file(options.file, options.to, out)
    if options.json:
        reporter.emit("done", files=[{"path": str(path), "bytes": path.stat().st_size} for path in written])
    else:
        print("\n".join(f"{path}: {path.stat().st_size:,} bytes" for path in written))


def _architecture(options: argparse.Namespace) -> dict[str, Any] | None:
    if options.architecture is None:
        return None
    try:
        value = json.loads(options.architecture)
    except json.JSONDecodeError as error:
        raise SpecError(f"not JSON: {error}", "--architecture") from error
    if not isinstance(value, dict):
        raise SpecError('an object is wanted, such as {"architecture": "lenet5"}', "--architecture")
    return value


def _models(path: Path | None) -> dict[str, ModelFile]:
    from compression.pipeline import ModelFile

    if path is None:
        return {}
    given = _json_file(path, "list of models")
    if not isinstance(given, dict) or not all(map(_is_model, given.values())):
        raise SpecError('an object is wanted: {ID: {"path": FILE, "architecture": OBJECT or null}}', "--models")
    return {id_: ModelFile(Path(entry["path"]), entry.get("architecture")) for id_, entry in given.items()}


def _is_model(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("path"), str)
        and isinstance(entry.get("architecture"), dict | None)
    )


def _json_file(path: Path, what: str) -> Any:
    _require_file(path)
    if path.stat().st_size > MAX_SPEC_BYTES:
        raise SpecError(f"the {what} is larger than 1 MiB", path.name)
    try:
        return json.loads(path.read_text("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise SpecError(f"not JSON: {error}", path.name) from error


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise Refusal("there is no such file", str(path))


def _end_with_parent() -> None:
    """The parent holds stdin's other end; when it is gone, so are we, in whatever we are doing."""
    while os.read(0, 4096):
        pass
    os._exit(75)


def _private_stdout() -> TextIO:
    """The stream for events. Everything else that is printed (by libraries too) goes to stderr."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return events


if __name__ == "__main__":
    sys.exit(main())
