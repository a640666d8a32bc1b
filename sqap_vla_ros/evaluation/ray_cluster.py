"""Jobs on a Ray cluster (optional; `pip install sqap_vla_ros[ray]` on every machine of it)."""
from typing import Callable, Iterator

from sqap_vla_ros.errors import UserError


def ray_results(function: Callable, jobs: list, address: str) -> Iterator:
    """
    Yield what `function` returns for each job, as they finish; one core a job.

    address: of the cluster's head, 'auto' for the one that this machine belongs to, 'local' for a
    cluster of this machine alone that ends with the run. The package and the policy must be at the
    same place on every machine. Raises UserError without Ray or a cluster.
    """
    try:
        import ray
    except ImportError:
        raise UserError('--ray: Ray is not installed; pip install "sqap_vla_ros[ray]" on every '
                        'machine of the cluster') from None
    try:
        ray.init(address=address, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = ' '.join(str(error).split())[:160]
        raise UserError(f'--ray {address}: no cluster there ({reason}); start one with `ray start '
                        '--head`, and give its address') from None
    try:
        remote = ray.remote(num_cpus=1)(function)
        pending = [remote.remote(job) for job in jobs]
        while pending:
            finished, pending = ray.wait(pending)
            yield from ray.get(finished)
    finally:
        ray.shutdown()
