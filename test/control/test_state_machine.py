from pathlib import Path
import re

import pytest

from sqap_vla_ros.control.state_machine import (
    Event,
    FAULTS,
    State,
    StateMachine,
    Transition,
    TRANSITIONS,
)


def machine_in(state):
    machine = StateMachine()
    ways = {
        State.UNREADY: (),
        State.READY: (Event.CONFIGURED,),
        State.RUNNING: (Event.CONFIGURED, Event.START),
        State.HOLDING: (Event.CONFIGURED, Event.START, Event.HOLD),
        State.ESTOPPED: (Event.CONFIGURED, Event.ESTOP),
    }
    for event in ways[state]:
        assert machine.handle(event).accepted
    assert machine.state is state
    return machine


@pytest.mark.parametrize('state', State)
@pytest.mark.parametrize('event', Event)
def test_every_event_in_every_state_follows_the_table_or_is_refused(state, event):
    machine = machine_in(state)
    transition = machine.handle(event, 'because')
    wanted = TRANSITIONS.get((state, event))
    assert transition.accepted == (wanted is not None)
    assert machine.state is transition.after is (wanted or state)
    assert event.value in transition.reason


def test_motion_needs_consent():
    into = {
        (state, event) for (state, event), after in TRANSITIONS.items() if after is State.RUNNING
    }
    assert {event for _, event in into} == {Event.START, Event.RESUME}
    assert State.ESTOPPED not in {state for state, _ in into}
    assert State.UNREADY not in {state for state, _ in into}


def test_an_emergency_stop_is_latched():
    out = {
        event: after
        for (state, event), after in TRANSITIONS.items()
        if state is State.ESTOPPED and after is not State.ESTOPPED
    }
    assert out == {Event.RESET_ESTOP: State.HOLDING, Event.SHUTDOWN: State.UNREADY}


def test_every_fault_ends_motion():
    assert all(TRANSITIONS[State.RUNNING, fault] is State.HOLDING for fault in FAULTS)


def test_every_state_but_unready_can_be_stopped_in_an_emergency():
    for state in set(State) - {State.UNREADY}:
        assert TRANSITIONS[state, Event.ESTOP] is State.ESTOPPED


def test_listeners_hear_accepted_events_only_with_their_reason():
    machine, heard = machine_in(State.READY), []
    machine.listen(heard.append)
    machine.handle(Event.FINISHED)
    machine.handle(Event.START, 'goal 7')
    assert heard == [Transition(State.READY, Event.START, State.RUNNING, 'start: goal 7', True)]
    assert machine.reason == 'start: goal 7'


def test_a_refusal_leaves_the_reason_alone():
    machine = machine_in(State.ESTOPPED)
    before = machine.reason
    assert 'not possible in state ESTOPPED' in machine.handle(Event.RESUME).reason
    assert machine.reason == before


def test_the_documented_table_is_the_table():
    text = (Path(__file__).parents[2] / 'doc' / 'control.md').read_text()
    rows = re.findall(r'^\| ([A-Z]+) \| ([a-z ]+) \| ([A-Z]+) \|$', text, re.MULTILINE)
    documented = {(State(before), Event(event)): State(after) for before, event, after in rows}
    assert documented == TRANSITIONS
