"""Processes that measure in turns, so that their figures can be compared."""

import os
import subprocess
import sys

_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Worker:
    """A Python process that does what it is asked, and answers with `answer`.

    Args:
        arguments: of Python: a file and its arguments.
        threads: number of threads that libraries may use.
        environment: further variables of the environment.
        stderr: as of `subprocess.Popen`.
    """

    def __init__(self, arguments, threads, environment=None, stderr=None):
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            text=True,
            bufsize=1,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={
                **os.environ,
                **dict.fromkeys(_LIMITS, str(threads)),
                **(environment or {}),
            },
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def ask(self, question):
        print(question, file=self.process.stdin, flush=True)
        return self.answer()

    def answer(self):
        """The next answer; None if the process has ended."""
        # Libraries print, too.
        for line in self.process.stdout:
            if line.startswith("> "):
                return line[2:]
        return None

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def answer(text):
    print(f"> {text}", flush=True)
