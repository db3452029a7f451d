"""The `polyrefuse` command: the sub-commands of all packages, each imported when it is run."""

from __future__ import annotations

import sys

COMMANDS: dict[str, tuple[str, str]] = {
    "data": ("polyrefuse_tasks.commands.data:app", "Fetch, check, find and translate the prompts."),
    "demo": (
        "polyrefuse_studies.commands.demo:app",
        "Measure the bundled models under five conditions, and see the leaderboard and the gate.",
    ),
    "direction": (
        "polyrefuse_models.commands.direction:app",
        "Extract refusal directions, and choose among scores.",
    ),
    "doctor": (
        "polyrefuse_models.commands.doctor:app",
        "Say what of this installation works, and the command that mends what does not.",
    ),
    "drift": (
        "polyrefuse_models.commands.drift:app",
        "Measure the KL divergence that a condition causes on harmless prompts.",
    ),
    "judge": (
        "polyrefuse_tasks.commands.judge:app",
        "Judge saved answers, import published ones, and check a judge against labels.",
    ),
    "leaderboard": (
        "polyrefuse_leaderboard.commands.leaderboard:app",
        "Turn results into tables and pages, and hold them to a baseline.",
    ),
    "mcd": ("polyrefuse_models.commands.mcd:app", "Train a multilingual soft safety prompt."),
    "study": ("polyrefuse_studies.commands.study:app", "Run a whole study from one file."),
    "organism": (
        "polyrefuse_models.commands.organism:app",
        "Make the bundled organism, or find it.",
    ),
}
"""Sub-command -> ("module:typer app", what the overview says about it)."""

ABOUT = "Multilingual refusal safety, measured with lm-evaluation-harness."
EXAMPLE = "Example: polyrefuse doctor"


def main() -> None:
    """Run the command line and end the process; `command_line` says with which exit code."""
    try:
        # Ctrl-C while these are imported is no traceback either.
        from polyrefuse_shared.command_line import mount, run

        run(mount(COMMANDS, ABOUT, EXAMPLE), name="polyrefuse")
    except KeyboardInterrupt:
        print("polyrefuse: interrupted.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
