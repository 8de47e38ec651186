# SPDX-License-Identifier: Apache-2.0
"""Clients that are not ours: programs in npm/ that use the packages installed there."""
import json
import os

import pytest

from base import Env, wait_for
from upstream import NPM, npm_install


class NodeClient:
    """npm/SCRIPT, running. It prints what happens to it, a JSON object a line; further names are its environment."""

    def __init__(self, env: Env, script: str, *arguments, **environment):
        packages = npm_install(env.build)
        if isinstance(packages, str):
            pytest.skip(packages)
        folder = env.folder("node")
        self.process = env.start(["node", NPM / script, *arguments], folder / "output", cwd=folder,
                                 environment={"PATH": os.environ["PATH"], "NODE_PATH": str(packages / "node_modules"),
                                              **{name: str(value) for name, value in environment.items()}})

    def told(self) -> list:
        """All so far."""
        try:
            return [json.loads(line) for line in self.process.log().split("\n")[:-1]]
        except ValueError:
            raise AssertionError(self.process.log()) from None

    def wait(self, timeout: float = 10, **fields) -> dict:
        """The first of what it tells that has these fields."""
        def matching():
            return next((told for told in self.told() if fields.items() <= told.items()), None)
        return wait_for(matching, timeout, f"{fields} in {self.process.log()}", 0.02)

    def end(self, timeout: float = 20) -> list:
        """All, once it has ended by itself."""
        wait_for(lambda: not self.process.running(), timeout, f"end of the client: {self.process.log()}", 0.02)
        assert self.process.popen.returncode == 0, self.process.log()
        return self.told()

    def stop(self) -> None:
        self.process.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
