"""Verbs said of jobs from the screens: checked, confirmed where something would be lost, sent, told, and taken back."""

from collections.abc import Awaitable, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from broker.protocol.states import Priority
from wyolo_tui.link import Link
from wyolo_tui.messages import Said
from wyolo_tui.verbs import ASKS_FIRST, UNDO_S, Undo, done, queue_of, split, undo_of

if TYPE_CHECKING:
    from broker.protocol.job import Job
    from wyolo_tui.app import WyoloApp


class Acting:
    """Belongs to the app. Remembers the one edit of the queue that can still be taken back."""

    def __init__(self, app: "WyoloApp") -> None:
        self._app = app
        self._undo: Undo | None = None
        self._undo_until = 0.0

    def act(self, verb: str, jobs: Sequence["Job"], **arguments: object) -> None:
        """`arguments` as the client's method has them."""
        able, why_not = split(verb, jobs)
        if why_not:
            self._app.say(why_not, "warning")
        if not able:
            return
        if verb == "resolve" and "verdict" not in arguments:
            self._ask_what_became(able)
            return
        if verb in ASKS_FIRST:
            from wyolo_tui.screens.confirm import Answer, ConfirmDialog

            def answered(answer: Answer | None) -> None:
                if answer is not None:
                    files = {"files": True} if answer.files else {}
                    self._send(verb, able, {**arguments, **files})

            self._app.push_screen(ConfirmDialog(verb, able, files=bool(arguments.get("files"))), answered)
            return
        self._send(verb, able, arguments)

    def _ask_what_became(self, jobs: Sequence["Job"]) -> None:
        from wyolo_tui.screens.resolve import ResolveDialog, Verdict

        def answered(verdict: Verdict | None) -> None:
            if verdict is not None:
                self._send("resolve", jobs, {"verdict": verdict})

        self._app.push_screen(ResolveDialog(jobs), answered)

    def _send(self, verb: str, jobs: Sequence["Job"], arguments: Mapping[str, object]) -> None:
        if self._app.link is None:
            self._app.say("the broker has not answered yet: nothing was done", "warning")
            return
        undo = undo_of(verb, jobs, queue_of(self._app.board.jobs))
        self._app.ask(self._each(self._app.link, verb, jobs, arguments, undo), group=f"act-{monotonic()}")

    async def _each(
        self, link: Link, verb: str, jobs: Sequence["Job"], arguments: Mapping[str, object], undo: Undo | None
    ) -> None:
        from broker.protocol.job import Job
        from wyolo_tui.unanswered import ProblemError

        did: list[Job] = []
        for job in jobs:
            try:
                answer = await _call(link, verb, job.id, arguments)
            except ProblemError as error:
                self._app.post_message(Said(f"#{job.id}: {error}", "error"))
                continue
            did.append(answer if verb == "rerun" and isinstance(answer, Job) else job)
        if not did:
            return
        text = done(verb, did, cast(Priority | None, arguments.get("priority")))
        if undo is not None and len(did) == len(jobs):
            self._undo, self._undo_until = undo, monotonic() + UNDO_S
            text += f"   {self._app.key('app.undo')} takes it back"
        self._app.post_message(Said(text))

    def undo(self) -> None:
        if self._undo is None or monotonic() > self._undo_until:
            self._app.say(f"nothing to take back: edits of the queue can be undone for {UNDO_S:.0f} s")
            return
        undo, self._undo = self._undo, None
        if self._app.link is not None:
            self._app.ask(self._back(self._app.link, undo), group="undo")

    async def _back(self, link: Link, undo: Undo) -> None:
        for verb, job_id, arguments in undo.steps:
            await _call(link, verb, job_id, arguments)
        self._app.post_message(Said(f"taken back: {undo.what}"))


async def _call(link: Link, verb: str, job_id: int, arguments: Mapping[str, object]) -> object:
    """A verb has one name everywhere: it is the client's method."""
    if verb == "priority":
        return await link.priority(job_id, cast(Priority, arguments["priority"]))
    if verb == "resolve":
        return await link.resolve(job_id, cast(Any, arguments["verdict"]))
    method: Any = getattr(link, verb)
    answer: Awaitable[object] = method(job_id, **arguments)
    return await answer
