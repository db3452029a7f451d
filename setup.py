"""What `setup.cfg` cannot say: the start-up hook is a file beside the packages.

lm-eval 0.4.13 discovers no plugins, so our import hook is installed in every interpreter of the
environment (polyrefuse_models/registration.py). Python runs a line of a `.pth` file for that, and
from 3.15 on the entry point in a `.start` file of the same name in its place (PEP 829; from 3.18 on
it ignores such lines). As files of the wheel both are uninstalled with it, in a normal and in an
editable install.
"""

import base64
import hashlib
import zipfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

# `site` prints a traceback for a line that raises, in every interpreter; so this one cannot, even
# where the package beside it has gone missing.
LINE = (
    "import sys; exec('try:\\n from polyrefuse_models.registration import install; install()\\n"
    "except Exception: pass')\n"
)
HOOKS = {
    "polyrefuse.pth": LINE,
    "polyrefuse.start": "polyrefuse_models.registration:install\n",
}
"""File beside the packages -> what is in it."""


class BuildPyWithHook(build_py):
    """A normal wheel: the hooks are two more files of the build folder."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            Path(self.build_lib).mkdir(parents=True, exist_ok=True)
            for name, content in HOOKS.items():
                Path(self.build_lib, name).write_text(content)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        outputs = super().get_outputs(include_bytecode)
        hooks = [str(Path(self.build_lib, name)) for name in HOOKS]
        return outputs if self.editable_mode else [*outputs, *hooks]


class EditableWheelWithHook(editable_wheel):
    """An editable wheel: the finished archive is rewritten with the hooks and their RECORD rows."""

    def run(self) -> None:
        super().run()
        for wheel in Path(self.dist_dir).glob("*.whl"):
            add_hooks(wheel)


def add_hooks(wheel: Path) -> None:
    """Put the hooks into a built wheel and into its RECORD, so that pip removes them again."""
    rewritten = wheel.with_suffix(".tmp")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(rewritten, "w") as new:
        for item in old.infolist():
            content = old.read(item)
            if item.filename.endswith(".dist-info/RECORD"):
                content += "".join(_record(*hook) for hook in HOOKS.items()).encode()
            new.writestr(item, content)
        for name, text in HOOKS.items():
            new.writestr(name, text)
    rewritten.replace(wheel)


def _record(name: str, text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(text.encode())}\n"


setup(cmdclass={"build_py": BuildPyWithHook, "editable_wheel": EditableWheelWithHook})
