"""A node of the settings -> its Docker engine."""

import os
from pathlib import Path

from broker.engines.container import Template
from broker.engines.docker import DockerEngine
from broker.engines.docker_link import Link
from broker.engines.docker_usage import Gauging, Usage
from broker.settings import NodeSettings, Settings

NOBODY = "65534:65534"
_HERE = ("127.0.0.1", "localhost", "[::1]")


def is_here(node: NodeSettings) -> bool:
    """Its daemon runs on this machine, so that our own gauges measure it."""
    address = node.url.partition("://")[2]
    return node.url.startswith("unix://") or address.rpartition(":")[0] in _HERE


def engine(node: NodeSettings, settings: Settings, broker_id: str, jobs_dir: Path, gauges: Gauging) -> DockerEngine:
    """`gauges`: this machine's; used where the daemon is here."""
    link = Link(node.name, node.url, node.tls, node.ssh_config)
    listed = [each for each in node.gpus if each.startswith("GPU-")] if isinstance(node.gpus, list) else []
    return DockerEngine(
        broker_id,
        link,
        template(node, settings),
        jobs_dir=jobs_dir,
        usage=Usage(link, gauges if is_here(node) else None, listed),
        log_keep_mib=settings.log_keep_mib,
    )


def template(node: NodeSettings, settings: Settings) -> Template:
    weights = [settings.weights_dir] if settings.weights_dir is not None else []
    return Template(
        image=node.image,
        user=node.user or _own_user(),
        python=node.python,
        pull=node.pull,
        network=node.network,
        shm_mib=node.shm_mib,
        tmp_mib=node.tmp_mib,
        pids=node.pids,
        log_mib=node.daemon_log_mib,
        reads=tuple(dict.fromkeys([*(node.reads or settings.allowed_roots), *weights])),
        path_map=node.path_map,
    )


def _own_user() -> str:
    """Files that a job leaves must be ours to remove."""
    return NOBODY if os.geteuid() == 0 else f"{os.geteuid()}:{os.getegid()}"
