"""`python -m trainer <train.json>`: runs one attempt. The exit code says how it ended, result.json why."""

import faulthandler
import os
import sys
from contextlib import suppress
from pathlib import Path

from broker.protocol.training import EXIT_FAILED, TrainConfig
from trainer import console
from trainer.lease import Lease
from trainer.stop import Stop, Stopped

_USAGE_ERROR = 2


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python -m trainer <train.json>", file=sys.stderr)
        return _USAGE_ERROR
    stop = Stop()
    # A stop that comes while this process still wakes up is obeyed as soon as there is someone to report it.
    stop.hold()
    stop.listen()
    faulthandler.enable()
    console.install()
    config = TrainConfig.model_validate_json(Path(sys.argv[1]).read_bytes())
    lease = Lease.of(os.environ, stop)
    if lease is not None:
        lease.watch()
    from trainer.emit import Emitter

    emitter = Emitter(Path(config.directory), stop)
    from trainer.run import run

    if lease is not None:
        lease.await_contact()
    return run(config, emitter, stop)


def leave(code: int) -> None:
    """Ends this process and what it started. At once: what torch does at exit can take longer than the whole stop."""
    with suppress(OSError):  # a full disk
        console.finish()
    psutil = sys.modules.get("psutil")
    if psutil is not None:
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):  # it has ended meanwhile
                child.kill()
    os._exit(code)


if __name__ == "__main__":
    try:
        leave(main())
    except (OSError, ValueError) as error:
        with suppress(OSError):
            print(f"the trainer could not report: {error}", file=sys.stderr)
        leave(EXIT_FAILED)
    except Stopped:
        leave(EXIT_FAILED)
