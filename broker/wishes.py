"""Which images and networks jobs may ask for on a node, and what is said to those that may not. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from broker.protocol.job import Resources
from broker.settings import NodeSettings

NO_NETWORK = "none"
ANY = "*"


@dataclass(frozen=True, slots=True)
class Allowed:
    """Of one node. `images`: glob patterns; `networks`: names, or ANY. By default: whatever needs no container."""

    images: Sequence[str] = ()
    networks: Sequence[str] = (ANY,)

    def refuses(self, wanted: Resources, node: str) -> str:
        """Why a job may not run there with what it asks for; '' where it may."""
        if wanted.image is not None and not _fits(wanted.image, self.images):
            if not self.images:
                return f"asks for the image {wanted.image}, {node} runs jobs without any"
            return f"asks for the image {wanted.image}, {node} allows {', '.join(self.images)}"
        if wanted.network is None or wanted.network in self.networks:
            return ""
        if ANY in self.networks:  # a process of the machine itself
            return f"asks for no network, and {node} cannot keep it away" if wanted.network == NO_NETWORK else ""
        return f"asks for the network {wanted.network}, {node} allows {', '.join(self.networks)}"


def allowed(node: NodeSettings) -> Allowed:
    if node.engine == "local":
        return Allowed()
    return Allowed(_once(node.image, *node.images), _once(node.network, NO_NETWORK, *node.networks))


def refusal(wanted: Resources, nodes: Iterable[NodeSettings]) -> tuple[str, str, str] | None:
    """What is said at submission, when none of the nodes that a job may run on allows it: the key, why, what to do."""
    able = [node for node in nodes if wanted.node in (None, node.name)]
    said = [allowed(node).refuses(wanted, node.name) for node in able]
    if not able or not all(said):
        return None
    key = "image" if any("image" in each for each in said) else "network"
    others = f"leave out `extras.{key}` for the node's own"
    return f"extras.{key}", "; ".join(said), f"{others}, or let the node allow it in wyolo.toml: `{key}s = [...]`"


def _fits(image: str, patterns: Iterable[str]) -> bool:
    """As written, or with the tag that it has without one."""
    name = image.rpartition("/")[2]
    spellings = (image,) if ":" in name or "@" in name else (image, f"{image}:latest")
    return any(fnmatchcase(each, pattern) for each in spellings for pattern in patterns)


def _once(*names: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
