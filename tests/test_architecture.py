"""What may import what, where import-linter can't see it: in a fresh interpreter; and what an installed package has."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

CACHE = "__pycache__"
HEAVY = ("torch", "numpy", "onnx", "onnxruntime", "safetensors", "PIL")


@pytest.mark.parametrize("module", ["compression.spec", "compression.__main__", "api.app", "worker.tasks"])
def test_no_tensor_library_comes_along(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_method_file_imports_without_torch_and_numpy() -> None:
    code = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {HEAVY}: raise ImportError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "from compression.registry import methods\n"
        "from compression.spec import JobSpec\n"
        "print(len(methods()), len(JobSpec.model_json_schema()['$defs']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, definitions = map(int, done.stdout.split())
    assert count >= 2
    assert definitions >= count


def test_what_is_installed_has_its_other_files_too() -> None:
    root = Path(__file__).parent.parent
    told = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    packed = {
        path
        for package, patterns in told["package-data"].items()
        for pattern in patterns
        for path in root.joinpath(*package.split(".")).glob(pattern)
    }
    folders = [root / name.rstrip("*") for name in told["packages"]["find"]["include"]]
    files = {path for folder in folders for path in folder.rglob("*") if path.is_file() and path.parent.name != CACHE}
    assert {path for path in files if path.suffix != ".py"} == packed
