"""The step of the training image that fetches packages: with pip, a venv and uv, from whatever index it is told of.

The daemon of these tests has no way out. So a few wheels are fetched as pip is configured here, and lie in the image
that is built on, as an index of their own.
"""

import subprocess
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dind import images
from dind.engine import Engine, silent
from dind.errors import BuildFailed
from tests.docker.daemon import HostDaemon
from tests.docker.tree import Tree

BASE, TAG = "wyolo-test-python", "wyolo-test-packages"
INDEX = {"PIP_INDEX_URL": "file:///index", "UV_INDEX_URL": "file:///index"}
FEW = "pydantic"  # of what a trainer needs


@pytest.fixture(scope="module")
def python_base(host: HostDaemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image with Python, venv, and an index that has uv and a few packages."""
    folder = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--dest", str(folder)]
    done = subprocess.run([*command, "uv", wanted()], capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        pytest.skip(f"no packages can be fetched here: {done.stderr[-500:]}")
    packed = host.folder / "python.tar"
    with Tree(packed) as tree:
        tree.python()
        standard = Path(sys.base_prefix, "lib", f"python{sys.version_info[0]}.{sys.version_info[1]}")
        for path in [*(standard / "ensurepip").rglob("*"), *(standard / "venv").rglob("*")]:
            if path.is_file() and "__pycache__" not in path.parts:
                tree.file(path, f"usr/local/lib/{standard.name}/{path.relative_to(standard)}")
        wheels = sorted(folder.glob("*.whl"))
        _index(tree, wheels)
        tree.libraries([_uv(wheels, folder)])
        tree.busybox()
    host.import_tree(packed, BASE)
    packed.unlink()
    yield BASE
    host.docker("image", "rm", "--force", TAG, BASE)


def wanted() -> str:
    return next(each for each in images.requirements() if each.startswith(FEW))


def _uv(wheels: list[Path], folder: Path) -> Path:
    """The program itself: a base that is no test's has its libraries."""
    with zipfile.ZipFile(next(wheel for wheel in wheels if wheel.name.startswith("uv-"))) as packed:
        return Path(packed.extract(next(name for name in packed.namelist() if name.endswith("/scripts/uv")), folder))


def _index(tree: Tree, wheels: list[Path]) -> None:
    """PEP 503, as files."""
    projects = defaultdict[str, list[Path]](list)
    for wheel in wheels:
        projects[wheel.name.partition("-")[0].lower().replace("_", "-")].append(wheel)
    for name, files in projects.items():
        for wheel in files:
            tree.file(wheel, f"index/{name}/{wheel.name}")
        links = "".join(f'<a href="{wheel.name}">{wheel.name}</a>\n' for wheel in files)
        tree.text(f"index/{name}/index.html", f"<!DOCTYPE html><html><body>\n{links}</body></html>\n")


async def test_packages_come_from_the_index_that_is_named_and_a_job_finds_them(
    host: HostDaemon, engine: Engine, python_base: str
) -> None:
    recipe = images.recipe(TAG, base=python_base, arguments=INDEX)
    few = replace(recipe, files={**recipe.files, "requirements.txt": f"{wanted()}\n".encode()})
    _, new = await images.make(engine, few, silent)
    assert new
    run = ["run", "--rm", "--network", "none", "--read-only", "--entrypoint", "python3", TAG, "-c"]
    found = host.docker(*run, f"import os, {FEW}, broker.protocol.job; print(os.getuid(), {FEW}.__file__)")
    assert found.startswith("65534 /opt/wyolo/venv/lib/python3")


async def test_a_package_that_the_index_has_not_is_named(engine: Engine, python_base: str) -> None:
    with pytest.raises(BuildFailed, match="ultralytics"):
        await images.make(engine, images.recipe(TAG, base=python_base, arguments=INDEX), silent)
