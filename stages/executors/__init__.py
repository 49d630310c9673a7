"""What runs fits (executor.py): processes of this machine, Ray, or Slurm. Only the chosen one's packages are imported."""

from __future__ import annotations

from pathlib import Path

from facecade.base.errors import FacecadeError
from facecade.base.machine import Machine, cores, parse_device
from facecade.stages.executors.executor import Executor
from facecade.stages.fit import RunData
from facecade.training.ranks import ALONE, Ranks


def make_executor(machine: Machine, run_data: RunData, run_folder: Path, fits: int, ranks: Ranks = ALONE) -> Executor:
    """The executor that a machine's settings name.

    Args:
        run_data: of the run in `run_folder`, whose face crops are all there.
        fits: how many will be submitted.
        ranks: processes that train each fit together, of which this one is the main one.

    Raises:
        FacecadeError: options that the executor does not take, or a device that is not here.
    """
    if ranks.count > 1:
        from facecade.stages.executors.together import TogetherExecutor
        from facecade.training.distributed import ProcessGroup

        assert isinstance(ranks, ProcessGroup)
        return TogetherExecutor(machine, run_data, ranks)
    if machine.executor == "slurm":
        from facecade.stages.executors.slurm_jobs import SlurmExecutor

        return SlurmExecutor(machine, run_folder)
    if machine.executor_options:
        raise FacecadeError(f"--executor-option is for slurm, not for {machine.executor}", "leave it out")
    if machine.executor != "processes":
        from facecade.stages.executors.ray_tasks import RayExecutor

        return RayExecutor(machine, run_data, run_folder)
    return _on_this_machine(machine, run_data, fits)


def _on_this_machine(machine: Machine, run_data: RunData, fits: int) -> Executor:
    from facecade.stages.executors.local import LocalExecutor
    from facecade.stages.executors.processes import ProcessExecutor
    from facecade.stages.local_crops import on_local_disk
    from facecade.training.device import cuda_devices

    gpus = cuda_devices(machine.device)
    of_processor = 1 if parse_device(machine.device)[0] == "mps" else max(1, cores() // machine.threads)
    jobs = min(machine.jobs or len(gpus) or of_processor, fits)
    run_data = on_local_disk(run_data, machine.local_disk)
    return ProcessExecutor(machine, run_data, jobs, gpus) if jobs > 1 else LocalExecutor(machine, run_data)
