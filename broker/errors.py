"""Every error that the broker raises on purpose.

    BrokerError
    ├── BadInput              findings, one or more; nothing was changed             bad_config | bad_data | bad_request
    ├── NotFound                                                                     not_found
    ├── Conflict              the verb does not fit the job's state                  conflict
    │   ├── StaleFence        another attempt has taken the job over                 conflict
    │   └── IdempotencyConflict   same key, other body                               idempotency_conflict
    ├── LedgerFull            no space on the ledger's disk; reads still work        disk_full
    ├── LedgerUnusable        made by a newer wyolo, or not a ledger; left as it is        internal
    ├── DataDirLocked         another broker holds the data directory                locked
    ├── QueueDown             Redis does not answer                                  redis_unavailable
    └── EngineError           an engine could not do it                              engine
        ├── AlreadyLaunched   the attempt exists: adopt it
        ├── AttemptGone       the engine says for certain: exited or never existed
        └── EngineUnreachable nobody knows: the attempt is UNKNOWN

A message says what happened, what was kept and what to do next.
"""

from collections.abc import Sequence

from broker.protocol.api import ErrorCode, Finding


class BrokerError(Exception):
    code = ErrorCode.INTERNAL


class BadInput(BrokerError):
    def __init__(self, findings: Sequence[Finding], code: ErrorCode = ErrorCode.BAD_CONFIG) -> None:
        self.findings = list(findings)
        self.code = code
        super().__init__("; ".join(f"{f.where}: {f.message}" if f.where else f.message for f in findings))


class NotFound(BrokerError):
    code = ErrorCode.NOT_FOUND


class Conflict(BrokerError):
    code = ErrorCode.CONFLICT


class StaleFence(Conflict):
    pass


class IdempotencyConflict(Conflict):
    code = ErrorCode.IDEMPOTENCY_CONFLICT


class LedgerFull(BrokerError):
    code = ErrorCode.DISK_FULL


class LedgerUnusable(BrokerError):
    pass


class DataDirLocked(BrokerError):
    code = ErrorCode.LOCKED


class QueueDown(BrokerError):
    code = ErrorCode.REDIS_UNAVAILABLE


class EngineError(BrokerError):
    code = ErrorCode.ENGINE


class AlreadyLaunched(EngineError):
    pass


class AttemptGone(EngineError):
    pass


class EngineUnreachable(EngineError):
    pass
