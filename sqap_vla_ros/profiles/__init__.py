"""Robot profiles: everything specific to one robot, in a YAML file. Independent of ROS."""
