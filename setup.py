"""What `setup.cfg` cannot say: the start-up hook is a `.pth` file beside the packages.

lm-eval 0.4.13 discovers no plugins, so a `.pth` line installs our import hook in every
interpreter of the environment (polyrefuse_models/registration.py). As a file of the wheel it is
uninstalled with it, in a normal and in an editable install.
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
PTH = "polyrefuse.pth"
LINE = (
    "import sys; exec('try:\\n from polyrefuse_models.registration import install; install()\\n"
    "except Exception: pass')\n"
)


class BuildPyWithHook(build_py):
    """A normal wheel: the `.pth` is one more file of the build folder."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            self._hook.parent.mkdir(parents=True, exist_ok=True)
            self._hook.write_text(LINE)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        outputs = super().get_outputs(include_bytecode)
        return outputs if self.editable_mode else [*outputs, str(self._hook)]

    @property
    def _hook(self) -> Path:
        return Path(self.build_lib, PTH)


class EditableWheelWithHook(editable_wheel):
    """An editable wheel: the finished archive is rewritten with the `.pth` and its RECORD row."""

    def run(self) -> None:
        super().run()
        for wheel in Path(self.dist_dir).glob("*.whl"):
            add_hook(wheel)


def add_hook(wheel: Path) -> None:
    """Put the `.pth` into a built wheel and into its RECORD, so that pip removes it again."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(LINE.encode()).digest()).rstrip(b"=").decode()
    rewritten = wheel.with_suffix(".tmp")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(rewritten, "w") as new:
        for item in old.infolist():
            content = old.read(item)
            if item.filename.endswith(".dist-info/RECORD"):
                content += f"{PTH},sha256={digest},{len(LINE.encode())}\n".encode()
            new.writestr(item, content)
        new.writestr(PTH, LINE)
    rewritten.replace(wheel)


setup(cmdclass={"build_py": BuildPyWithHook, "editable_wheel": EditableWheelWithHook})
