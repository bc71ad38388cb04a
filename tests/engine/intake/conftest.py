from pathlib import Path

import pytest

from tests.engine.intake import nets


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    """`archive(name, dynamic=True)`: the `.pt2` of a network of `nets`, exported once a session."""
    folder: Path = tmp_path_factory.mktemp("pt2")

    def exported(name, *, dynamic=True):
        path = folder / f"{name}-{dynamic}.pt2"
        if not path.exists():
            module, example = nets.make(name)
            nets.export(module, example if dynamic else example[:1], path, dynamic=dynamic)
        return path

    return exported
