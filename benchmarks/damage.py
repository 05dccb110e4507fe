"""What each loader gets out of damaged event files: `python -m benchmarks.damage` prints one table.

A class of damage is a run of its own, of tests/data/damaged/tensorboard; tests/data/truth says how many scalar points
in it are good. Ours is `summarydb index --once`, TensorBoard's Python loader an EventAccumulator a run that keeps
everything, the Rust data server is asked over gRPC, with its checksums on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from sqlalchemy import text

from benchmarks import ours
from benchmarks.measure import REPOSITORY, Failed, Program
from indexer.db.engine import open_reader

DAMAGED = REPOSITORY / "tests" / "data" / "damaged" / "tensorboard"
TRUTH = REPOSITORY / "tests" / "data" / "truth" / "DAMAGED.json"
_PASSED_OVER = {"ignored", "symlink", "clean", "empty"}  # nothing in them is damaged
_LOAD_SECONDS = 60.0  # a file of a few KB takes milliseconds
_EVERYTHING = 1_000_000_000  # samples a tag


def copied(target: Path) -> dict[str, int]:
    """Copy the damaged files, a run a class; return how many good scalar points each has."""
    good: Counter[str] = Counter()
    for path, case in json.loads(TRUTH.read_text(encoding="utf-8")).items():
        source = DAMAGED.parent.parent / path
        if source.parent.parent != DAMAGED or case["class"] in _PASSED_OVER or not source.is_file():
            continue
        (target / case["case"]).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target / case["case"] / source.name)
        parts = (case.get("scalars_before", {}), case.get("scalars_after", {}))
        good[case["case"]] += sum(tag["count"] for part in parts for tag in part.values())
    return dict(good)


def by_us(directory: Path) -> dict[str, int]:
    """Return how many scalar points of each run summarydb has."""
    url = f"sqlite:///{directory.parent / 'damage.db'}"
    ours.index(directory, url)
    reader = open_reader(url)
    query = "SELECT job, sum(point_count) FROM v_tags WHERE data_class = 'scalar' GROUP BY job"
    with reader.connect() as conn:
        found = {job.removeprefix("./"): int(count) for job, count in conn.execute(text(query))}
    reader.dispose()
    return {run.name: found.get(run.name, 0) for run in directory.iterdir()}


def by_python(directory: Path) -> dict[str, int]:
    """Return how many scalar points of each run TensorBoard's Python loader has."""
    with Program([sys.executable, "-m", "benchmarks.damage", "--python", directory]) as program:
        found: dict[str, int] = json.loads(program.finish().output.splitlines()[-1])
    return found


def by_rust(directory: Path) -> dict[str, int]:
    """Return how many scalar points of each run TensorBoard's Rust data server has; without those on which it died."""
    found = {}
    for run in sorted(directory.iterdir()):
        try:
            found[run.name] = served(run)
        except Failed as e:
            print(f"{run.name}: {str(e).splitlines()[-1]}", file=sys.stderr)
    return found


def served(run: Path) -> int:
    """Return how many scalar points of a run the Rust data server has, in a process of its own."""
    import grpc  # the peers are no part of what the tests need
    import tensorboard_data_server  # type: ignore[import-untyped]
    from tensorboard.data.proto import data_provider_pb2, data_provider_pb2_grpc

    port = run.parent.parent / "port"
    port.unlink(missing_ok=True)
    options = ["--reload=once", "--checksum", "--samples-per-plugin=scalars=all", "--host=127.0.0.1", "--port=0"]
    binary = tensorboard_data_server.server_binary()
    with Program([binary, f"--logdir={run}", *options, f"--port-file={port}", "--verbose"]) as program:
        _, match = program.wait_for("Finished load cycle|panicked at", seconds=_LOAD_SECONDS)
        if match.group().startswith("panicked"):  # the thread that loads; the others go on
            raise program.failed("lost the thread that loads")
        with grpc.insecure_channel(f"127.0.0.1:{int(port.read_text())}") as channel:
            provider = data_provider_pb2_grpc.TensorBoardDataProviderStub(channel)
            request = data_provider_pb2.ReadScalarsRequest()
            request.plugin_filter.plugin_name = "scalars"
            request.downsample.num_points = _EVERYTHING
            runs = provider.ReadScalars(request).runs
            return sum(len(tag.data.step) for found in runs for tag in found.tags)


def accumulated(directory: Path) -> dict[str, int]:
    """Return the same as `by_python`, in this process."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for run in sorted(directory.iterdir()):
        loaded = EventAccumulator(str(run), size_guidance={"scalars": 0, "tensors": 0})
        try:
            loaded.Reload()
        except Exception as e:  # what it has by then counts
            print(f"{run.name}: {type(e).__name__}: {e}", file=sys.stderr)
        tags = loaded.Tags()
        found[run.name] = sum(len(loaded.Scalars(tag)) for tag in tags["scalars"])
        found[run.name] += sum(len(loaded.Tensors(tag)) for tag in tags["tensors"])
    return found


def table(good: Mapping[str, int], found: Sequence[tuple[str, Mapping[str, int]]]) -> str:
    """Return a row a class, and a sum."""
    lines = [
        "| damage | good points | " + " | ".join(name for name, _ in found) + " |",
        "|---|--:|" + "--:|" * len(found),
    ]
    for name, count in sorted(good.items()):
        cells = [str(counts.get(name, "died")) for _, counts in found]
        lines.append(f"| {name} | {count} | {' | '.join(cells)} |")
    sums = [str(sum(counts.get(name, 0) for name in good)) for _, counts in found]
    lines.append(f"| all | {sum(good.values())} | {' | '.join(sums)} |")
    return "\n".join(lines)


def main() -> int:
    """Print the table; 1 where summarydb has not every good point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.damage", description=__doc__)
    parser.add_argument("--python", type=Path, metavar="DIRECTORY", help="only TensorBoard's Python loader, as JSON")
    chosen = parser.parse_args()
    if chosen.python is not None:
        print(json.dumps(accumulated(chosen.python)))
        return 0
    with tempfile.TemporaryDirectory(prefix="summarydb-damage-") as base:
        directory = Path(base) / "runs"
        good = copied(directory)
        own = by_us(directory)
        others = [("TensorBoard, Python", by_python(directory)), ("TensorBoard, Rust", by_rust(directory))]
    print(table(good, [("summarydb", own), *others]))
    return int(any(own.get(name, 0) != count for name, count in good.items()))


if __name__ == "__main__":
    sys.exit(main())
