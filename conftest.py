"""What every test may rely on: no model hub, a cache of its own, one thread, the same seeds."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Iterator

# Set before the libraries that read them are imported.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "Agg"
os.environ["COLUMNS"] = "120"
os.environ["OMP_NUM_THREADS"] = "1"  # two workers with two threads each are slower than two with one
os.environ.pop("FORCE_COLOR", None)

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Unit tests get an empty cache; `real` ones keep the user's, so that weights are fetched once."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # so it is in what a shell runs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("-m") == "real":
        return
    import tempfile

    cache = tempfile.TemporaryDirectory(prefix="acclimate-cache-", ignore_cleanup_errors=True)
    config.add_cleanup(cache.cleanup)
    os.environ["ACCLIMATE_CACHE"] = cache.name


@pytest.fixture(autouse=True)
def _seeds() -> Iterator[None]:
    """Seed the process-wide generators, for code of a test that uses them; torch only where it is loaded already."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
        sys.modules["torch"].set_num_threads(1)
    yield
