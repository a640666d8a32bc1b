"""Records observations, inferences and commands as bags that can be read without ROS."""
