"""The port map: what answers where on the host's loopback. Each sandbox has a block of ten."""

BLOCKS = {"api": 23400, "environment": 23410, "media": 23420}
PORTAINER, SSH, WEB_TERMINAL, ENGINE = range(4)  # within a block

SERVICES = {
    "mlflow": 23435,
    "postgres": 23436,
    "redis": 23438,
    "redis-browser": 23439,
    "s3-console": 23442,
    "files": 23443,
    "s3": 23444,
    "smb": 23449,
    "broker": 23450,
    "dashboard": 23451,
}

# What each service listens on in its own container.
DOCKER_INSIDE = 2376
INSIDE = {
    "mlflow": 5000,
    "postgres": 5432,
    "redis": 6379,
    "redis-browser": 8081,
    "s3-console": 9001,
    "s3": 9000,
    "broker": 23450,
}
SSH_INSIDE, WEB_TERMINAL_INSIDE, PORTAINER_INSIDE = 2222, 7681, 9000


def engine_port(sandbox: str) -> int:
    """Where a sandbox's daemon answers by TLS; 0, any free port, for a sandbox that the map does not know."""
    block = BLOCKS.get(sandbox)
    return 0 if block is None else block + ENGINE
