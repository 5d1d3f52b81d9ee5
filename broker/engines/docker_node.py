"""A node of the settings -> its Docker engine."""

import os
from pathlib import Path

from broker.engines.container import Template
from broker.engines.docker import DockerEngine
from broker.engines.docker_host import Host
from broker.engines.docker_link import Link
from broker.engines.docker_probe import Probe
from broker.engines.docker_usage import Gauging, Usage
from broker.settings import NodeSettings, Settings

NOBODY = "65534:65534"


def engine(node: NodeSettings, settings: Settings, broker_id: str, jobs_dir: Path, gauges: Gauging) -> DockerEngine:
    """`gauges`: this machine's; used where the daemon is here."""
    link = Link(node.name, node.url, node.tls, node.ssh_config)
    listed = [each for each in node.gpus if each.startswith("GPU-")] if isinstance(node.gpus, list) else []
    made = template(node, settings, jobs_dir)
    probe = Probe(link, broker_id, made, node.gpus) if node.gpus != "none" and not node.here else None
    return DockerEngine(
        broker_id,
        link,
        made,
        jobs_dir=jobs_dir,
        usage=Usage(link, gauges if node.here else None, listed, probe),
        log_keep_mib=settings.log_keep_mib,
        host=Host(Link(f"the host of {node.name}", node.host), node.container) if node.host else None,
    )


def template(node: NodeSettings, settings: Settings, jobs_dir: Path) -> Template:
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
        shared=node.shares(jobs_dir),
        fetch_s=node.fetch_minutes * 60,
    )


def _own_user() -> str:
    """Files that a job leaves must be ours to remove."""
    return NOBODY if os.geteuid() == 0 else f"{os.geteuid()}:{os.getegid()}"
