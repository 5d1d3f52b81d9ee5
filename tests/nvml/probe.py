"""A program that takes a sample for each line it reads: `python -m tests.nvml.probe DATA_DIR CHOICE`."""

import asyncio
import json
import sys
from pathlib import Path

from broker.errors import EngineUnreachable
from broker.gauges import Gauges


async def main(data_dir: str, choice: str) -> None:
    gauges = Gauges("here", Path(data_dir), choice if choice in {"all", "none"} else choice.split(","))  # type: ignore[arg-type]
    while await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
        try:
            sample = (await gauges.sample()).model_dump(mode="json")
        except EngineUnreachable as error:
            sample = {"error": str(error)}
        print(json.dumps({"sample": sample, "uuids": gauges.gpu_uuids, "why": gauges.no_gpus}), flush=True)


asyncio.run(main(sys.argv[1], sys.argv[2]))
