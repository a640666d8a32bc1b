"""Jobs on a Ray cluster (optional: `pip install sqap_vla_ros[ray]` on every machine)."""

from collections.abc import Callable, Generator
import re
import socket
from typing import TypeVar

from sqap_vla_ros.errors import UserError

Job = TypeVar('Job')


def ray_results(
    function: Callable[[Job], list[dict]], jobs: list[Job], address: str
) -> Generator[list[dict], None, None]:
    """
    Yield what `function` returns for each job, in the order of finishing; one core per job.

    The same version of the package must be installed on every machine.

    Args:
        function: runs a job; it and its result are pickled.
        jobs: its arguments.
        address: address of the cluster's head; 'auto': the cluster that this machine belongs to;
            'local': a cluster of this machine alone, which ends with the run.

    Raises:
        UserError: Ray is not installed, there is no cluster at `address`, a job raised a
            UserError, or the cluster lost a job more often than Ray retries.
    """
    try:
        import ray
    except ImportError:
        raise UserError(
            '--ray: Ray is not installed; pip install "sqap_vla_ros[ray]" on every '
            'machine of the cluster'
        ) from None
    try:
        _check_reachable(address)
        ray.init(address=address, log_to_driver=False)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise UserError(
            f'--ray {address}: cannot join a cluster there ({_line(error)}); start '
            'one with `ray start --head`, and give its address'
        ) from None
    try:
        remote = ray.remote(num_cpus=1)(function)
        pending = [remote.remote(job) for job in jobs]
        while pending:
            finished, pending = ray.wait(pending)
            yield from ray.get(finished)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise UserError(f'--ray {address}: a worker says: {error.cause}') from None
        missing = re.search(r"No module named '[^'\n]+'", str(error))
        if missing:
            raise UserError(
                f'--ray {address}: a worker says: {missing.group()}; install the same '
                'version of sqap_vla_ros[ray,simulation] on every machine'
            ) from None
        raise
    except ray.exceptions.RayError as error:
        raise UserError(
            f'--ray {address}: the cluster lost a job ({_line(error)}); the same '
            'command continues from the episodes that --json kept'
        ) from None
    finally:
        ray.shutdown()


def _check_reachable(address: str, timeout_s: float = 5.0) -> None:
    """Raise OSError when nothing listens; Ray itself would retry for minutes."""
    host, _, port = address.rpartition(':')
    if host and '/' not in host and port.isdecimal():
        socket.create_connection((host.strip('[]'), int(port)), timeout_s).close()


def _line(error: Exception) -> str:
    return ' '.join(str(error).split())[:160]
