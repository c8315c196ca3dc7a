"""Real prepared data sets, for the tests that can use them; a user's machine need not have any."""

import json
import os
from pathlib import Path

import pytest

PLACES = (
    os.environ.get("TFDS_DATA_DIR"),
    "~/tensorflow_datasets",
    Path(__file__).parents[3] / "shared" / "tensorflow_datasets",  # beside the repository
)


@pytest.fixture(scope="session")
def real_set(tmp_path_factory):
    """`real_set("mnist/3.0.1")` is a read-only folder with the files of that prepared set; skips where there is none.

    The files are links in a folder of the test's own, so that nothing is ever written beside the user's data.
    """

    def linked(name):
        for place in filter(None, PLACES):
            folder = Path(place).expanduser() / name
            info = folder / "dataset_info.json"
            if info.is_file() and json.loads(info.read_text()).get("fileFormat") == "array_record":
                copy = tmp_path_factory.mktemp("real") / name
                copy.mkdir(parents=True)
                for path in folder.iterdir():
                    if not path.name.startswith("kd_jax-"):
                        (copy / path.name).symlink_to(path.resolve())
                copy.chmod(0o555)
                return copy
        pytest.skip(f"no prepared {name} on this machine")

    return linked
