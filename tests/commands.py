"""What tests of every sub-command ask of a mistake."""

from __future__ import annotations


def assert_one_sentence(result: tuple[int, str, str], *named: str) -> None:
    """Exit code 2, nothing on standard output, one line on standard error that names these."""
    code, out, err = result
    assert (code, out) == (2, "")
    assert err.startswith("polyrefuse: ")
    assert err.count("\n") == 1
    for part in named:
        assert part in err
