"""Restores many photos on the machines of a Ray cluster.

pip install ".[cluster]"
python examples/restore_cluster.py PHOTOS OUTPUT [--preset nafnet_mh_c] [--cores 16]

PHOTOS is a folder, or a text file with a path per line; OUTPUT gets NAME.png, as from
`mhdeblur restore --recursive`. Without a cluster it runs on this machine; in one, start
it on the head node, or with `ray job submit`. All machines need this package and see
the same files under the same paths. Every worker loads the model once and holds one
photo at a time.

Ray starts a worker that has died anew and gives it its photo again, up to three times:
a photo that is too large for the memory does not end the rest. Outputs appear whole or
not at all, and those that are there are left alone, so the same command goes on where
it was stopped. OUTPUT/failed.txt says what failed and why; the exit code is 1 then.
"""

import argparse
import sys
from pathlib import Path

import ray

from keras_mhdeblur.cli.common import one_line, positive, printable
from keras_mhdeblur.cli.photo_paths import find_photos, plan_outputs


class Restorer:
    """A worker's model; restores the photo of a job (path, target)."""

    def __init__(self, preset):
        import keras_mhdeblur

        self.model = keras_mhdeblur.from_preset(preset)

    def __call__(self, job):
        target = Path(job["target"])
        reason = ""
        try:
            # A worker can die between the output and its report of it.
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                self.model.restore(job["path"], hypotheses=False).save(target)
        except Exception as error:
            reason = one_line(error)
        return {**job, "reason": reason}


def main():
    parser = argparse.ArgumentParser(
        description="Restores many photos on the machines of a Ray cluster."
    )
    add = parser.add_argument
    add("photos", type=Path, help="folder, or text file with a path per line")
    add("output", type=Path, help="folder, the same on all machines")
    add("--preset", default="nafnet_mh_c", help="name, hf://..., or a full path")
    add("--cores", type=positive, help="of a worker (default: the smallest machine's)")
    options = parser.parse_args()

    inputs = [options.photos]
    if options.photos.is_file():
        lines = options.photos.read_text("utf-8").splitlines()
        inputs = [line for line in lines if line]
    output = options.output.resolve()
    photos, failed = find_photos(inputs, recursive=True, output=output)
    names = plan_outputs([name for _, name in photos])
    jobs = [
        {"path": str(path.resolve()), "target": str(output / name)}
        for (path, _), name in zip(photos, names)
    ]
    waiting = [job for job in jobs if not Path(job["target"]).exists()]
    output.mkdir(parents=True, exist_ok=True)
    if waiting:
        failed += restore_all(waiting, options.preset, options.cores)
    (output / "failed.txt").write_text("".join(f"{line}\n" for line in failed), "utf-8")
    print(
        f"{len(jobs)} photos, {len(jobs) - len(waiting)} already there, "
        f"{len(failed)} failed."
    )
    return 1 if failed else 0


def restore_all(jobs, preset, cores):
    """Restores photos; returns a line for each that failed.

    Args:
        jobs: dicts, "path" of a photo and "target", the PNG file to write.
        preset: as for `from_preset`.
        cores: of a worker; None for those of the smallest machine.

    Raises:
        ValueError: if no machine has so many cores.
    """
    ray.init()
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    machines = [int(node["CPU"]) for node in nodes if "CPU" in node]
    cores = cores or min(machines)
    workers = sum(machine // cores for machine in machines)
    if not workers:
        raise ValueError(
            f"`cores` must be at most {max(machines)}, those of the largest machine. "
            f"Received: cores={cores}"
        )
    # A photo whose worker dies every time is given up, not the others.
    ray.data.DataContext.get_current().max_errored_blocks = -1
    results = ray.data.from_items(jobs, override_num_blocks=len(jobs)).map(
        Restorer,
        fn_constructor_args=(preset,),
        # No photo waits in a worker, where it would die with another one.
        compute=ray.data.ActorPoolStrategy(
            size=workers, max_tasks_in_flight_per_actor=1
        ),
        num_cpus=cores,
        max_task_retries=3,
    )
    reasons = {job["path"]: "its worker died every time" for job in jobs}
    reasons |= {row["path"]: row["reason"] for row in results.iter_rows()}
    return [
        f"{printable(path)}: {reason}" for path, reason in reasons.items() if reason
    ]


if __name__ == "__main__":
    sys.exit(main())
