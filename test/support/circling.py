"""How the arm moves when `faulty_worker` leads it, and how patient the node is."""

import os

FAULT_FILE = 'SQAP_VLA_ROS_TEST_FAULT_FILE'
SPEED_M_S, TURN_RAD_S = 0.08, 2.0
# Set by `make faults`; a slack of 10, a factor on every time limit, is for busy machines. There
# the node, too, must be more patient, or it would hold for what no test has broken.
SLACK = float(os.environ.get('FAULT_SLACK', 10))
OBSERVATION_TIMEOUT_S = 0.5 if SLACK <= 1 else 2.0
STEP_S = 0.05 if SLACK <= 1 else 0.2
CHUNK_S = 16 * STEP_S
DEADLINE_S = 2.0 if SLACK <= 1 else 6.0
