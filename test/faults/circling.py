"""How the arm moves when `faulty_worker` leads it."""
FAULT_FILE = 'SQAP_VLA_ROS_TEST_FAULT_FILE'
SPEED_M_S, TURN_RAD_S = 0.08, 2.0
