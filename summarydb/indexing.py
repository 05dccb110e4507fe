"""An indexer beside a data server: a child that is started again where it fails, and ends with us however we end."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path

from summarydb import ending, parent
from summarydb.settings import Settings, to_json

AGAIN_SECONDS = 10.0
"""Between two tries where the database is another's to write, or the directory is not there yet."""


class Indexing:
    """Indexes a directory, as soon as it is there, in a process of its own."""

    def __init__(self, settings: Settings, logdir: Path, *, once: bool) -> None:
        self._settings = settings
        self._logdir = logdir
        self._once = once
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._run, name="indexing", daemon=True)

    def start(self) -> None:
        """Begin, in a thread."""
        self._thread.start()

    def end(self) -> None:
        """End the child: its standard input closes, and if it does not mind that it is killed."""
        self._stop.set()
        with self._lock:  # none is started from here on
            process = self._process
        if process is None:
            return
        try:
            if process.stdin is not None:
                process.stdin.close()
        except OSError:
            pass  # it is gone already
        try:
            process.wait(parent.CHILD_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _run(self) -> None:
        pause, said = parent.FIRST_PAUSE, ""
        while not self._stop.is_set():
            if not self._logdir.is_dir():
                self._stop.wait(min(AGAIN_SECONDS, self._settings.config.reconcile))
                continue
            code, words = self._index()
            if self._stop.is_set() or (code == ending.OK and self._once):
                return
            if code in {ending.REFUSED, ending.USAGE, ending.LATER}:  # another one indexes, mostly: read what it writes
                pause, line = AGAIN_SECONDS, f"not indexing: {words}"
            else:
                line = f"the indexer ended ({words or parent.cause(code)}); it is started again"
            if line != said:
                ending.say(line)
            said = line
            self._stop.wait(pause)
            pause = min(pause * 2, parent.LAST_PAUSE)

    def _index(self) -> tuple[int, str]:
        """Run the child to its end; return its exit code and what it refused."""
        with self._lock:
            if self._stop.is_set():
                return ending.OK, ""
            try:
                process = self._process = parent.spawn("_index", *(["--once"] if self._once else []))
            except OSError as e:  # no descriptor, no memory, too many processes: that passes
                return ending.BROKEN, f"it cannot be started: {e.strerror or e}"
        words = ""
        try:
            if process.stdin is not None:
                process.stdin.write(json.dumps(to_json(self._settings)) + "\n")
                process.stdin.flush()
        except OSError:
            pass  # it ended at once: its exit code tells
        if process.stdout is not None:
            with process.stdout as lines:
                for line in lines:
                    words = json.loads(line).get("refused", words)
        return process.wait(), words
