"""A registry with one image in it, in the network of a test's daemon: slow, and with a line that breaks, as wanted.

As a program: `python -m tests.containers.registry ROOT PORT CUTS PAUSE`, where ROOT is the image's root file system.
"""

import gzip
import hashlib
import io
import json
import secrets
import subprocess
import sys
import tarfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.containers.dockerd import Dockerd, free_port

PIECE = 256 * 1024
PADDING = 4 * 1024 * 1024  # bytes that nothing makes smaller
NAME = "us/tool"


@contextmanager
def serving(dockerd: Dockerd, cuts: int = 0, pause: float = 0.0) -> Generator[str]:
    """The image's name. Its layer breaks off half-way `cuts` times; `pause`: seconds between its pieces."""
    port = free_port()
    command = [
        *("nsenter", f"--net=/proc/{dockerd.pid}/ns/net", sys.executable, "-m", "tests.containers.registry"),
        *(str(dockerd.directory / "busybox"), str(port), str(cuts), str(pause)),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        yield f"127.0.0.1:{port}/{NAME}"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def blobs(root: Path) -> tuple[dict[str, bytes], bytes, str]:
    """By digest; the manifest; and the digest of the layer."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(root, ".")
        padding = tarfile.TarInfo("padding")
        padding.size = PADDING
        tar.addfile(padding, io.BytesIO(secrets.token_bytes(PADDING)))
    layer = gzip.compress(packed.getvalue(), 1)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(packed.getvalue())]},
        }
    ).encode()
    kind = "application/vnd.docker.container.image.v1+json"
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"mediaType": kind, "size": len(config), "digest": _digest(config)},
        "layers": [
            {
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "size": len(layer),
                "digest": _digest(layer),
            }
        ],
    }
    return {_digest(config): config, _digest(layer): layer}, json.dumps(manifest).encode(), _digest(layer)


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def main(root: str, port: str, cuts: str, pause: str) -> None:
    known, manifest, layer = blobs(Path(root))
    left = [int(cuts)]

    class Registry(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            *_, kind, name = self.path.split("/")
            if self.path == "/v2/":
                self._answer(b"{}", "application/json")
            elif kind == "manifests" and name in {"latest", "1", _digest(manifest)} and NAME in self.path:
                self._answer(manifest, "application/vnd.docker.distribution.manifest.v2+json")
            elif kind == "blobs" and name in known:
                self._answer(known[name], "application/octet-stream", slow=name == layer)
            else:
                said = b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}'
                self._answer(said, "application/json", 404)

        def _answer(self, body: bytes, kind: str, status: int = 200, *, slow: bool = False) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Docker-Content-Digest", _digest(body))
            self.end_headers()
            if self.command == "HEAD":
                return
            cut = slow and left[0] > 0
            left[0] -= cut
            for begin in range(0, len(body) // 2 if cut else len(body), PIECE):
                self.wfile.write(body[begin : begin + PIECE])
                if slow:
                    time.sleep(float(pause))

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Registry)
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
