import re
import shutil
from pathlib import Path

import pytest

from export import free_space
from export.errors import DiskSpaceError
from export.free_space import Need

# A file system of its own, where the kernel has one that everybody may look at.
OTHER = Path("/dev/shm")


def test_enough_is_no_error(tmp_path: Path) -> None:
    free_space.require([Need("the weights", tmp_path / "not/there/yet", 1, "HF_HOME"), Need("x", OTHER, 1, "y")])


def test_too_little_names_the_needs_of_that_file_system_alone(tmp_path: Path) -> None:
    weights = Need("the weights", tmp_path / "cache", 10**17, "HF_HOME")
    models = Need("the models", tmp_path / "models", 2 * 10**17, "--repository")
    with pytest.raises(DiskSpaceError) as caught:
        free_space.require([weights, models, Need("another", OTHER, 1, "other")])
    expected = (
        rf"too little disk space: 100000000\.00 GB for the weights in {weights.directory} and 200000000\.00 GB for the "
        rf"models in {models.directory} are needed, and [\d.]+ [GM]B are free\. "
        r"Free some, or choose another directory \(HF_HOME, --repository\)"
    )
    assert re.fullmatch(expected, str(caught.value))


def test_needs_that_fit_one_by_one_must_fit_together(tmp_path: Path) -> None:

    two_thirds = shutil.disk_usage(tmp_path).free * 2 // 3
    one = Need("the weights", tmp_path, two_thirds, "HF_HOME")
    free_space.require([one])
    with pytest.raises(DiskSpaceError):
        free_space.require([one, Need("the models", tmp_path, two_thirds, "--repository")])
