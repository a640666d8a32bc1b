"""A soak's verdict."""

from sqap_vla_ros.system.process_usage import children, Usage, usage
from sqap_vla_ros.system.soak_report import SoakRecord, text


def record(memory_mb, **fields):
    samples = [Usage(float(i), m, 4, 10) for i, m in enumerate(memory_mb)]
    return SoakRecord(1.0, samples={'policy_node': samples}, load=[1.0], **fields)


def event(held=True, recovery_s=0.5):
    return {'held': held, 'reaction_s': 0.1, 'recovery_s': recovery_s}


def test_a_quiet_soak_passes():
    quiet = record([100.0] * 50, faults={'image: drop': [event()]})
    assert quiet.problems() == [] and text(quiet).endswith('passed')
    assert quiet.to_dict()['growth'] == {'policy_node': 0.0}


def test_filling_caches_at_the_beginning_is_no_growth_but_a_leak_is():
    assert record([50.0] * 10 + [100.0] * 40).problems() == []
    leak = record([100 + 0.1 * i for i in range(50)])
    assert leak.problems() == ['memory of policy_node grew by 3.0 %']
    assert text(leak).endswith('FAILED')


def test_a_worker_that_is_replaced_says_nothing_of_growth():
    worker = record([100.0] * 50)
    worker.samples['worker'] = [Usage(float(i), 100.0 + i, 1, 5) for i in range(50)]
    assert worker.problems() == []


def test_stuck_states_motion_crashes_and_broken_limits_are_problems():
    assert record([1.0], faults={'x': [event(recovery_s=None), event()]}).problems() == [
        'x: no recovery 1 times of 2'
    ]
    assert record([1.0], faults={'x': [event(held=False)]}).problems() == [
        'x: no hold 1 times of 1'
    ]
    assert record([1.0], crash='policy_node ended').problems() == ['policy_node ended']
    assert record([1.0], violations={'jerk': 3}).problems() == [
        '3 commands broke the limit of jerk'
    ]


def test_a_process_tells_what_it_holds():
    import os

    own = usage(os.getpid(), 1.0)
    assert own.memory_mb > 5 and own.threads >= 1 and own.files >= 3
    assert usage(2**22 + 1, 1.0) is None and children(2**22 + 1) == []
    assert os.getpid() in children(os.getppid())
