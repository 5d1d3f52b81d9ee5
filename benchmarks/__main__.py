"""`make bench`: runs every benchmark, or those named, prints the table and writes it into docs/benchmarks.md.

python -m benchmarks [--no-write] [training launch submissions throughput broker cockpit adoption containers]
"""

import argparse
import importlib
import platform
import sys
import time
from pathlib import Path

from benchmarks.report import Row, markdown

MODULES = {
    "training": "training_overhead",
    "launch": "launch_latency",
    "submissions": "submissions",
    "throughput": "throughput",
    "broker": "broker_scale",
    "cockpit": "cockpit",
    "adoption": "adoption",
    "containers": "containers",
}
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
BEGIN, END = "<!-- table -->", "<!-- /table -->"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(MODULES)} (default: all)")
    parser.add_argument("--no-write", action="store_true", help="print only")
    options = parser.parse_args()
    unknown = set(options.names) - set(MODULES)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(MODULES)}")
    rows: list[Row] = []
    for name in options.names or list(MODULES):
        print(f"{name} ...", file=sys.stderr, flush=True)
        began = time.monotonic()
        measured: list[Row] = importlib.import_module(f"benchmarks.{MODULES[name]}").run()
        rows += measured
        print(f"{markdown(measured)}\n({time.monotonic() - began:.0f} s)\n", file=sys.stderr, flush=True)
    table = markdown(rows)
    print(table)
    if not options.names and not options.no_write:
        page = PAGE.read_text()
        before, after = page.split(BEGIN)[0], page.split(END)[1]
        stamp = f"Measured {time.strftime('%Y-%m-%d')} on {platform.machine()}, Python {platform.python_version()}."
        PAGE.write_text(f"{before}{BEGIN}\n{stamp}\n\n{table}\n{END}{after}")
    return 0 if all(row.met is not False for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
