"""The verbs of the jobs screen, as keys and as commands, for the marked jobs or else the one under the cursor."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from broker.protocol.states import ACTIVE, WAITING, JobState, Priority
from wyolo_tui.commands import JOB_VERBS, Command
from wyolo_tui.export import FORMATS, write
from wyolo_tui.verbs import neighbours, next_priority, queue_of, split

if TYPE_CHECKING:
    from broker.protocol.job import Job
    from wyolo_tui.app import WyoloApp
    from wyolo_tui.widgets.jobs_table import JobsTable


class JobKeys:
    """Mixed into JobsScreen, which has the table."""

    if TYPE_CHECKING:

        @property
        def cockpit(self) -> WyoloApp: ...
        @property
        def table(self) -> JobsTable: ...
        async def open_tab(self, tab: str) -> None: ...
        def set_filter(self, text: str) -> str: ...
        def sort_on(self, column: str) -> None: ...
        def open_command(self, text: str) -> None: ...
        def action_columns(self) -> None: ...

    def _chosen_job(self) -> "Job | None":
        """The job under the cursor; without one that is said."""
        job = self.table.current
        if job is None:
            self.cockpit.say("no job is selected", "warning")
        return job

    # --- control ---

    @property
    def _targets(self) -> list["Job"]:
        """What a verb acts on; where that is nothing, it has been said."""
        targets, hidden = self.table.targets, self.table.hidden_marks
        if not targets and hidden:
            clear = f"{self.cockpit.key('move.clear')} clears the marks"
            self.cockpit.say(f"the filter hides all {hidden} marked: nothing was done; {clear}", "warning")
        elif not targets:
            self.cockpit.say("no job is selected", "warning")
        return targets

    def _act(self, verb: str, jobs: Sequence["Job"] | None = None, **arguments: object) -> None:
        if targets := self._targets if jobs is None else jobs:
            self.cockpit.acting.act(verb, targets, **arguments)

    def action_stop(self) -> None:
        self._act("stop")

    def action_kill(self) -> None:
        self._act("kill")

    def action_preempt(self) -> None:
        self._act("preempt")

    def action_resolve(self) -> None:
        self._act("resolve")

    def action_remove(self) -> None:
        self._act("remove")

    def action_rerun(self) -> None:
        self._act("rerun")

    def action_resume(self) -> None:
        targets = self._targets
        completed = [job for job in targets if job.state is JobState.COMPLETED]
        if completed and len(completed) == len(targets):  # there is nothing to go on with, but for more epochs
            ids = " ".join(str(job.id) for job in completed)
            more = max(job.epochs for job in completed) * 2
            self.open_command(f"resume {ids} --epochs {more}")
            return
        self._act("resume", [job for job in targets if job not in completed])

    def action_hold(self) -> None:
        targets = self._targets
        held = [job for job in targets if job.state is JobState.HELD]
        others = [job for job in targets if job.state is not JobState.HELD]
        if others:
            self._act("hold", others)
        if held and (not others or not any(job.state is JobState.QUEUED for job in others)):
            self._act("release", held)

    def action_raise_priority(self) -> None:
        self._step_priority(1)

    def action_lower(self) -> None:
        self._step_priority(-1)

    def _step_priority(self, step: int) -> None:
        able, why_not = split("priority", self._targets)
        if why_not:
            self.cockpit.say(why_not, "warning")
        for current in Priority:
            to = next_priority(current, step)
            jobs = [job for job in able if job.priority is current]
            if jobs and to is not None:
                self._act("priority", jobs, priority=to)
        if able and all(next_priority(job.priority, step) is None for job in able):
            self.cockpit.say(f"its priority is {able[0].priority.value} already")

    def action_move_job(self, step: int) -> None:
        job = self.table.current
        if job is None or job.state is not JobState.QUEUED:
            self.cockpit.say("only a queued job can be moved", "warning")
            return
        before, after = neighbours(job, queue_of(self.cockpit.board.jobs))
        if step < 0 and before is not None:
            self._act("move", [job], before=before.id)
        elif step > 0 and after is not None:
            self._act("move", [job], after=after.id)
        else:
            self.cockpit.say(f"it is {'first' if step < 0 else 'last'} of its priority already")

    # --- making ---

    def action_submit(self, path: str = "") -> None:
        from wyolo_tui.screens.submit import SubmitDialog

        self.cockpit.push_screen(SubmitDialog(path=path), self._submitted)

    def action_paste(self) -> None:
        from wyolo_tui.screens.submit import SubmitDialog

        self.cockpit.push_screen(SubmitDialog(paste=True), self._submitted)

    def action_clone(self) -> None:
        if (job := self._chosen_job()) is not None:
            self._from_job(job, edit=False)

    def action_edit(self) -> None:
        job = self._chosen_job()
        if job is None:
            return
        if job.state not in WAITING:
            self.cockpit.say(f"#{job.id} has started: {self.cockpit.key('make.clone')} clones it instead", "warning")
            return
        self._from_job(job, edit=True)

    def _from_job(self, job: "Job", edit: bool) -> None:
        link = self.cockpit.link
        if link is None:
            self.cockpit.say("the broker has not answered yet", "warning")
            return
        from wyolo_tui.screens.submit import SubmitDialog

        async def open_form() -> None:
            whole = await link.job(job.id)
            self.cockpit.push_screen(SubmitDialog(job=whole, edit=edit), self._submitted)

        self.cockpit.ask(open_form(), group="form")

    def _submitted(self, job: "Job | None") -> None:
        if job is not None:
            self.cockpit.call_later(self.table.select, job.id)

    # --- looking ---

    def action_why(self) -> None:
        job = self._chosen_job()
        if job is None:
            return
        from wyolo_tui.screens.why import WhyDialog

        self.cockpit.push_screen(WhyDialog(job))

    def action_diff(self) -> None:
        targets, link = self.table.targets, self.cockpit.link
        if not 2 <= len(targets) <= 6 or link is None:
            mark = self.cockpit.key("move.mark")
            self.cockpit.say(f"mark two to six jobs with {mark}, then press {self.cockpit.key('look.diff')}")
            return
        from wyolo_tui.screens.diff import DiffDialog

        async def open_diff() -> None:
            self.cockpit.push_screen(DiffDialog([await link.job(job.id) for job in targets]))

        self.cockpit.ask(open_diff(), group="form")

    def action_images(self) -> None:
        self.cockpit.say("pictures come with the Artifacts screen; the files are in the job's directory")

    def action_mlflow(self) -> None:
        self.cockpit.say("no MLflow server is connected to this broker")

    def action_shell(self) -> None:
        job = self._chosen_job()
        if job is None:
            return
        if job.state not in ACTIVE:
            self.cockpit.say(f"#{job.id} is {job.state}: nothing of it runs to open a shell in", "warning")
            return
        self.cockpit.leave_for(["exec", str(job.id)])

    # --- the table ---

    def action_copy_id(self) -> None:
        ids = " ".join(str(job.id) for job in self._targets)
        if ids:
            self.cockpit.copy_to_clipboard(ids)
            self.cockpit.say(f"copied {ids}")

    def action_export(self) -> None:
        self.open_command(f"export csv {self._export_name('csv')}")

    def _export_name(self, kind: str) -> str:
        return f"wyolo-jobs-{self.cockpit.now.astimezone(self.cockpit.zone):%Y%m%d-%H%M%S}.{kind}"

    def _export(self, command: Command) -> None:
        kind = command.words[0]
        path = Path(command.words[1] if len(command.words) > 1 else self._export_name(kind)).expanduser()
        jobs = [self.table.jobs[id] for id in self.table.order.ids]
        try:
            write(path, FORMATS[kind](jobs))
        except OSError as error:
            self.cockpit.say(f"{path}: {error.strerror or error}; nothing was written", "error")
            return
        self.cockpit.say(f"{len(jobs)} jobs written to {path}")

    # --- commands ---

    def run_job_command(self, command: Command) -> bool:
        """Whether it was one of ours."""
        jobs = self._meant(command)
        if jobs is None:
            return True
        name = command.name
        if name in JOB_VERBS:
            self._run_verb(command, jobs)
            return True
        match name:
            case "submit":
                self.action_submit(command.words[0] if command.words else "")
            case "filter":
                problem = self.set_filter(command.text)
                if problem:
                    self.cockpit.say(f"filter: {problem}", "warning")
            case "sort":
                self.sort_on(command.words[0])
            case "columns":
                self.action_columns()
            case "export":
                self._export(command)
            case "job" | "log" | "metrics" | "why" | "edit" | "clone" | "diff":
                self._look(name, jobs, bool(command.ids))
            case _:
                return False
        return True

    def _meant(self, command: Command) -> list["Job"] | None:
        """The jobs of a command; None where one is unknown (said)."""
        if not command.ids:
            return self._targets if command.name in JOB_VERBS else self.table.targets
        known = self.cockpit.board.jobs
        missing = [id for id in command.ids if id not in known]
        if missing:
            self.cockpit.say(f"there is no job {', '.join(f'#{id}' for id in missing[:4])} here", "warning")
            return None
        return [known[id] for id in command.ids]

    def _run_verb(self, command: Command, jobs: Sequence["Job"]) -> None:
        arguments: dict[str, object] = {}
        match command.name:
            case "priority":
                arguments["priority"] = Priority(command.words[0])
            case "move":
                arguments["to"] = command.words[0]
            case "resolve":
                arguments["verdict"] = command.words[0]
            case "resume" if "epochs" in command.options:
                arguments["epochs"] = int(command.options["epochs"])
            case "remove" if "files" in command.options:
                arguments["files"] = True
            case _:
                pass
        self._act(command.name, jobs, **arguments)

    def _look(self, name: str, jobs: Sequence["Job"], named: bool) -> None:
        if named and jobs and name != "diff" and not self.table.select(jobs[0].id):
            self.cockpit.say(f"#{jobs[0].id} is hidden by the filter", "warning")
            return
        match name:
            case "log" | "metrics":
                self.cockpit.call_later(self.open_tab, "log" if name == "log" else "curves")
            case "why":
                self.action_why()
            case "edit":
                self.action_edit()
            case "clone":
                self.action_clone()
            case "diff":
                if named:
                    self.table.marks = {job.id for job in jobs}
                self.action_diff()
            case _:
                pass
