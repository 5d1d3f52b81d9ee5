"""`python -m tests.train.with_memory BYTES train.json`: the real trainer, under a limit of so much memory."""

import sys

from trainer import limits
from trainer.__main__ import leave, main

if __name__ == "__main__":
    left = int(sys.argv.pop(1))
    limits.memory = lambda: left
    leave(main())
