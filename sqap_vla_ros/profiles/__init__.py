"""Robot profiles: what a robot needs to be told and how, in one YAML file. No ROS in here."""
