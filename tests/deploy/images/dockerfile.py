"""A Dockerfile as its instructions."""

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[3]
DOCKERFILES = sorted((ROOT / "deploy/images").glob("*.Dockerfile"))


@dataclass(frozen=True)
class Instruction:
    keyword: str
    value: str

    @property
    def words(self) -> list[str]:
        """Of the JSON form, or of a line as a shell splits it."""
        return list(json.loads(self.value)) if self.value.startswith("[") else shlex.split(self.value)


@dataclass(frozen=True)
class Stage:
    """From one FROM to the next."""

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def of(self, keyword: str) -> list[Instruction]:
        return [instruction for instruction in self.instructions if instruction.keyword == keyword]


def stages(path: Path) -> list[Stage]:
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
    found: list[Stage] = []
    for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
        keyword, _, value = line.strip().partition(" ")
        if keyword == "FROM":
            base, _, name = value.partition(" AS ")
            found.append(Stage(base, name))
        elif keyword and found:
            found[-1].instructions.append(Instruction(keyword, value.strip()))
    return found
