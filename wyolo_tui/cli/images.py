"""wyolo images: the image that trainings run in, built once and brought to every node."""
import typer
command = typer.Typer(help="x", no_args_is_help=True)
@command.callback()
def c() -> None: ...
@command.command("build")
def b() -> None: ...
