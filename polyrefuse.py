"""The `polyrefuse` command, which imports each package's sub-command only when it is run."""

from __future__ import annotations

import sys

COMMANDS: dict[str, tuple[str, str]] = {
    "data": (
        "polyrefuse_tasks.commands.data:app",
        "Fetch, check, find, translate, add and show the prompts.",
    ),
    "demo": (
        "polyrefuse_studies.commands.demo:app",
        "Measure the bundled models in five conditions and show the leaderboard and the gate.",
    ),
    "direction": (
        "polyrefuse_models.commands.direction:app",
        "Extract refusal directions, measure what they do, and show where prompts lie along them.",
    ),
    "doctor": (
        "polyrefuse_models.commands.doctor:app",
        "Check this installation, and print the command that fixes what does not work.",
    ),
    "drift": (
        "polyrefuse_models.commands.drift:app",
        "Measure the KL divergence that a condition causes on harmless prompts.",
    ),
    "judge": (
        "polyrefuse_tasks.commands.judge:app",
        "Judge saved answers, import published answers, and check a judge against labels.",
    ),
    "leaderboard": (
        "polyrefuse_leaderboard.commands.leaderboard:app",
        "Turn results into tables and pages, and compare them with a baseline.",
    ),
    "mcd": ("polyrefuse_models.commands.mcd:app", "Train a multilingual soft safety prompt."),
    "study": (
        "polyrefuse_studies.commands.study:app",
        "Plan and run a whole study from one file.",
    ),
    "organism": (
        "polyrefuse_models.commands.organism:app",
        "Train the bundled organism again, or print its folder.",
    ),
}
"""Sub-command -> its typer app as "module:app", and its line in the overview."""

ABOUT = "Multilingual refusal safety, measured with lm-evaluation-harness."
EXAMPLE = "Example: polyrefuse doctor"


def main() -> None:
    """Run the command line and end the process with one of the exit codes of `command_line`."""
    try:
        # This import is inside the block because Ctrl-C must not print a traceback during it.
        from polyrefuse_shared.command_line import mount, run

        run(mount(COMMANDS, ABOUT, EXAMPLE), name="polyrefuse")
    except KeyboardInterrupt:
        print("polyrefuse: interrupted.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
