"""Root file systems for images, packed in a moment from what this machine has installed.

A program comes with the libraries that it is linked to, each at its own path; BusyBox is everything else.
"""

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

DAEMON = ("dockerd", "docker", "containerd", "containerd-shim-runc-v2", "runc", "docker-init", "docker-proxy")
FIREWALL = ("iptables", "ip6tables")  # dockerd makes its networks with them
PATH = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
_FOLDERS = {"bin": 0o755, "etc": 0o755, "usr/bin": 0o755, "usr/sbin": 0o755, "tmp": 0o1777, "var/run": 0o755}
_LIBRARY = re.compile(r"(/\S+) \(0x")
_UNUSED = {
    "test",
    "idlelib",
    "tkinter",
    "turtledemo",
    "ensurepip",
    "lib2to3",
    "site-packages",
    "pydoc_data",
    "unittest",
}


def which(program: str) -> Path | None:
    found = shutil.which(program, path=PATH)
    return Path(found) if found else None


class Tree:
    """`with Tree(path) as tree:` writes an uncompressed tar of a root file system with BusyBox in it."""

    def __init__(self, path: Path) -> None:
        self._tar = tarfile.TarFile(path, "w")
        self._has: set[str] = set()

    def __enter__(self) -> Self:
        for name, mode in _FOLDERS.items():
            self.folder(name, mode)
        self.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n")
        self.text("etc/group", "root:x:0:\nnogroup:x:65534:\n")
        return self

    def __exit__(self, *_: object) -> None:
        self._tar.close()

    def folder(self, name: str, mode: int = 0o755) -> None:
        for parent in (*reversed(Path(name).parents[:-1]), Path(name)):
            if self._new(str(parent)):
                entry = tarfile.TarInfo(str(parent))
                entry.type, entry.mode = tarfile.DIRTYPE, mode if str(parent) == name else 0o755
                self._tar.addfile(entry)

    def text(self, name: str, content: str) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(content.encode()), 0o644
        self._new(name)
        self._tar.addfile(entry, io.BytesIO(content.encode()))

    def link(self, name: str, target: str) -> None:
        self.folder(str(Path(name).parent))
        if self._new(name):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            self._tar.addfile(entry)

    def file(self, source: Path, name: str = "") -> None:
        """What `source` is in the end, at its path or as `name`."""
        name = name or str(source).lstrip("/")
        self.folder(str(Path(name).parent))
        if self._new(name):
            entry = self._tar.gettarinfo(source.resolve(), name)
            entry.uid = entry.gid = 0
            with source.open("rb") as file:
                self._tar.addfile(entry, file)

    def busybox(self) -> None:
        """With a link for each of its commands that is not there otherwise."""
        self.file(_there("busybox"), "bin/busybox")
        for command in listed():
            if f"usr/bin/{command}" not in self._has and f"usr/sbin/{command}" not in self._has:
                self.link(f"bin/{command}", "/bin/busybox")

    def programs(self, names: Iterable[str]) -> None:
        """Each in usr/bin, with its libraries. Raises FileNotFoundError."""
        for name in names:
            program = _there(name)
            self.file(program, f"usr/bin/{name}")
            self.libraries([program])

    def libraries(self, files: Sequence[Path]) -> None:
        for library in _libraries(files):
            self.file(library)

    def python(self) -> None:
        """This one, as /usr/local/bin/python3, without packages."""
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        program = Path(sys.base_prefix, "bin", version)
        standard = Path(sys.base_prefix, "lib", version)
        self.file(program, "usr/local/bin/python3")
        files = [path for path in standard.rglob("*") if path.is_file()]
        wanted = [path for path in files if not _UNUSED.intersection(path.relative_to(standard).parts)]
        wanted = [
            path for path in wanted if path.suffix in {".py", ".so"} and not path.name.startswith(("_tk", "_test"))
        ]
        for path in wanted:
            self.file(path, f"usr/local/lib/{version}/{path.relative_to(standard)}")
        self.libraries([program, *(path for path in wanted if path.suffix == ".so")])

    def _new(self, name: str) -> bool:
        if name in self._has:
            return False
        self._has.add(name)
        return True


def pack_busybox(path: Path) -> Path:
    with Tree(path) as tree:
        tree.busybox()
    return path


def pack_installed(path: Path, mounted: Sequence[str]) -> Path:
    """Nothing but BusyBox, and where `mounted` folders of this machine are links, the same links: the rest is there
    once they are mounted."""
    with Tree(path) as tree:
        for name in mounted:
            if Path(name).is_symlink():
                tree.link(name.lstrip("/"), str(Path(name).readlink()))
        tree.busybox()
    return path


def pack_sandbox(path: Path) -> Path:
    """What dind/Dockerfile and dind/trainer.Dockerfile want of their base. Raises FileNotFoundError."""
    with Tree(path) as tree:
        tree.programs((*DAEMON, *FIREWALL, "openssl"))
        plugins = [each for folder in Path("/usr").glob("lib*/**/xtables") for each in folder.glob("*.so")]
        for plugin in plugins:
            tree.file(plugin)
        tree.libraries(plugins)
        tree.python()
        tree.busybox()
    return path


def listed() -> list[str]:
    """BusyBox's commands."""
    done = subprocess.run([_there("busybox"), "--list"], capture_output=True, text=True, check=True)
    return [command for command in done.stdout.split() if command != "busybox"]


def _libraries(files: Sequence[Path]) -> list[Path]:
    """What they are linked to, at the paths by which the loader finds it; nothing for static ones."""
    done = subprocess.run(["ldd", *files], capture_output=True, text=True, check=False)
    return [Path(found) for found in dict.fromkeys(_LIBRARY.findall(done.stdout))]


def _there(program: str) -> Path:
    found = which(program)
    if found is None:
        raise FileNotFoundError(f"{program} is not installed")
    return found
