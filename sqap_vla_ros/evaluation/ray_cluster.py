"""Jobs on a Ray cluster (optional; `pip install sqap_vla_ros[ray]` on every machine of it)."""

from collections.abc import Callable, Iterator
import re
import socket

from sqap_vla_ros.errors import UserError


def ray_results(function: Callable, jobs: list, address: str) -> Iterator:
    """
    Yield what `function` returns for each job, as they finish; one core a job.

    address: of the cluster's head, 'auto' for the one that this machine belongs to, 'local' for a
    cluster of this machine alone that ends with the run. The same version of the package must be
    installed on every machine. Raises UserError without Ray or a cluster, where a job raised one,
    and where the cluster lost a job more often than Ray tries again.
    """
    try:
        import ray
    except ImportError:
        raise UserError(
            '--ray: Ray is not installed; pip install "sqap_vla_ros[ray]" on every '
            'machine of the cluster'
        ) from None
    try:
        _knock(address)
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
            'command goes on from where --json kept it'
        ) from None
    finally:
        ray.shutdown()


def _knock(address, timeout_s=5.0) -> None:
    """Raise OSError where nothing listens; Ray itself tries for minutes."""
    host, _, port = address.rpartition(':')
    if host and '/' not in host and port.isdecimal():
        socket.create_connection((host.strip('[]'), int(port)), timeout_s).close()


def _line(error):
    return ' '.join(str(error).split())[:160]
