"""Profiles that the tests of profiles change."""

PROFILE = """\
robot: Two-joint arm
run_on_hardware: false
base_frame: base_link
end_effector_frame: tool
cameras:
  camera: {topic: image, optical_frame: optical, extrinsics: {source: tf}}
joints:
  - {name: shoulder, lower: -90 deg, upper: 90 deg, velocity: 1.0}
  - {name: elbow, lower: -1.0, upper: 1.0, velocity: 60 deg/s}
limits:
  linear_speed: 250 mm/s
  angular_speed: 0.5
  linear_acceleration: 0.5
  linear_jerk: 10
  stop_deceleration: 1.0
  stop_jerk: 20
  workspace_low: [0, 0, 0]
  workspace_high: [1, 1, 1]
outputs:
  - {type: twist_stamped, topic: twist}
"""
GRIPPED = 'gripper: {{joint: {joint}, unit: rad, open: 0, closed: {closed}}}\nlimits:'
JOINT_SPACE = PROFILE[: PROFILE.index('limits:')].replace('velocity', 'acceleration: 5, velocity')
JOINT_SPACE += (
    'action: {space: joint_position}\noutputs:\n  - {type: joint_trajectory, topic: t}\n'
)
