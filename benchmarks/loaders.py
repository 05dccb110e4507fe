"""The peers that are Python libraries, each as a program: `python -m benchmarks.loaders NAME DIRECTORY`.

Prints one line `points=N`: how many scalar points it holds in memory.
"""

from __future__ import annotations

import sys


def tensorboard(directory: str) -> int:
    """Load with TensorBoard's EventMultiplexer (an EventAccumulator a run), keeping every scalar."""
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    loaded = EventMultiplexer(size_guidance={"scalars": 0}).AddRunsFromDirectory(directory).Reload()
    runs = loaded.Runs()
    return sum(len(loaded.Scalars(run, tag)) for run in runs for tag in runs[run]["scalars"])


def tbparse(directory: str) -> int:
    """Load with tbparse into a pandas frame."""
    from tbparse import SummaryReader

    return len(SummaryReader(directory).scalars)


if __name__ == "__main__":
    loader = {"tensorboard": tensorboard, "tbparse": tbparse}[sys.argv[1]]
    print(f"points={loader(sys.argv[2])}")
