"""The motion that `faulty_worker` commands, and the time limits of the fault tests."""

import os

FAULT_FILE = 'SQAP_VLA_ROS_TEST_FAULT_FILE'
SPEED_M_S, TURN_RAD_S = 0.08, 2.0
# A factor on every time limit; `make faults` sets 1, and 10 is for busy machines. There the node's
# own timeouts are longer too, or it would hold without an injected fault.
SLACK = float(os.environ.get('FAULT_SLACK', 10))
OBSERVATION_TIMEOUT_S = 0.5 if SLACK <= 1 else 2.0
STEP_S = 0.05 if SLACK <= 1 else 0.2
CHUNK_S = 16 * STEP_S
DEADLINE_S = 2.0 if SLACK <= 1 else 6.0
