"""What every test may rely on: no model hub, a cache of its own, one thread, the same seeds."""

from __future__ import annotations

import gc
import os
import random
import signal
import sys

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
    gc.disable()  # until everything is imported: none of it is garbage
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # so it is in what a shell runs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("-m") == "real":
        return
    import tempfile

    cache = tempfile.TemporaryDirectory(prefix="acclimate-cache-", ignore_cleanup_errors=True)
    config.add_cleanup(cache.cleanup)
    os.environ["ACCLIMATE_CACHE"] = cache.name


def pytest_collection_finish(session: pytest.Session) -> None:
    """Look for garbage less often, and never among the libraries and tests loaded so far: a sixth of the time went."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    gc.enable()


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """Seed the process-wide generators, for code of a test that uses them; torch only where it is loaded already."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        torch.default_generator.manual_seed(0)
        if torch.cuda.is_initialized():  # torch.manual_seed would note a stack for every test where there is no GPU
            torch.cuda.manual_seed_all(0)
        torch.set_num_threads(1)
